"""InfoNCE: tell the other view of an image from all other embeddings; as SimCLR's NT-Xent, and with any kernel."""

from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example, Lightly
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.log_sum import LogKernel, mean_log_sum
from twoview.methods.losses.pairs import pairs, unit


@float32
def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Return the normalized temperature-scaled cross entropy (NT-Xent) of two views of a batch.

    loss_i = -s(z_i, z_i+) / tau + log sum_{k != i} exp(s(z_i, z_k) / tau), averaged over all 2B embeddings. s is the
    cosine similarity, k runs over all 2B embeddings except i, and the positive i+ is part of the sum.

    z1, z2: (B, d), any floating dtype, not normalized; row i of both comes from image i. temperature: tau > 0.
    Returns a float32 scalar. Normalization, logits and log-sum-exp are computed in float32 even under autocast
    (float64 inputs stay float64).
    Source: Chen et al. 2020, equation 1; `objective.py` of google-research/simclr.
    """
    checks.embeddings(z1=z1, z2=z2)
    checks.positive("temperature", temperature)
    return infonce(unit(z1), unit(z2), lambda cosine: cosine / temperature)


def infonce(z1: Tensor, z2: Tensor, log_kernel: LogKernel) -> Tensor:
    """Return the mean over i of -log [K(z_i, z_i+) / sum_{k != i} K(z_i, z_k)], for any kernel K.

    i runs over the 2B embeddings of this rank, k over both views of all ranks.
    z1, z2: (B, d) of unit length, float32 or float64. log_kernel: log K as a function of the cosine.
    """
    rows, columns, own, _ = pairs(z1, z2)
    everyone = mean_log_sum(rows, columns, log_kernel, own[:, None])
    return everyone - log_kernel((z1 * z2).sum(1)).mean()


EXAMPLES = {
    "nt_xent": Example(
        lambda z1, z2, label: nt_xent(z1, z2, 0.2), lightly=Lightly("NTXentLoss", lambda dim: {"temperature": 0.2})
    )
}
