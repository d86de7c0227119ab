"""InfoNCE in its SimCLR form, NT-Xent."""

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy of two views of a batch.

    loss_i = -s(z_i, z_i+) / tau + log sum_{k != i} exp(s(z_i, z_k) / tau), s the cosine, over all 2B embeddings,
    the positive inside the sum; the mean over i.

    z1, z2: (B, D), any floating dtype, not normalised; row i of both comes from image i. temperature: tau > 0.
    Returns a float32 scalar: normalisation, logits and log-sum-exp are float32, whatever autocast says
    (float64 stays float64).
    Source: Chen et al. 2020, equation 1; `objective.py` of google-research/simclr.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if z1.shape != z2.shape or z1.ndim != 2 or len(z1) < 2:
        raise ValueError(f"z1 and z2 must both be (B, D) with B >= 2, not {tuple(z1.shape)} and {tuple(z2.shape)}")
    with torch.autocast(z1.device.type, enabled=False):
        z = torch.cat([z1, z2])
        z = F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)
        logits = z @ z.T / temperature
        logits.fill_diagonal_(-torch.inf)
        batch = len(z1)
        positive = torch.arange(2 * batch, device=z.device).roll(batch)
        return F.cross_entropy(logits, positive)
