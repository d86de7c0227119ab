"""The supervised contrastive loss."""

from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.classes import class_sums
from twoview.methods.losses.example import Example
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.gather import gather
from twoview.methods.losses.log_sum import mean_log_sum
from twoview.methods.losses.pairs import pairs, unit


@float32
def supcon(z1: Tensor, z2: Tensor, label: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss with the positives averaged outside the logarithm (L_out).

    loss_i = -1/|P(i)| sum_{p in P(i)} [s(z_i, z_p) / tau - log sum_{k != i} exp(s(z_i, z_k) / tau)], averaged over all
    2B embeddings. s is the cosine similarity, and P(i) holds all other embeddings of both views with the label of i. If
    all labels differ, this is NT-Xent.

    z1, z2: (B, d), any floating dtype, not normalized. label: integers (B,). temperature: tau > 0.
    Returns a float32 scalar.
    Source: Khosla et al. 2020, equation 2; HobbitLong/SupContrast scales it by tau / base tau, which is 1 there.
    """
    checks.embeddings(z1=z1, z2=z2)
    checks.labels(label, len(z1))
    checks.positive("temperature", temperature)
    rows, columns, own, _ = pairs(unit(z1), unit(z2))
    everyone = mean_log_sum(rows, columns, lambda cosine: cosine / temperature, own[:, None])
    sums, counts = class_sums(columns, gather(label).repeat(2))
    # The inner product is linear, so the mean over the positives needs only the sum of each class, less the row itself.
    attract = (rows * (sums[own] - rows)).sum(1) / (counts[own] - 1)
    return everyone - attract.mean() / temperature


EXAMPLES = {"supcon": Example(lambda z1, z2, label: supcon(z1, z2, label, 0.2))}
