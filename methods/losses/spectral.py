"""The spectral contrastive loss."""

import torch
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.gather import gather, rank_offset
from twoview.methods.losses.pairs import unit
from twoview.methods.losses.products import squared_products


@float32
def spectral(z1: Tensor, z2: Tensor) -> Tensor:
    """Return -2 mean_i z1_i . z2_i + mean_{i != k} (z1_i . z2_k)^2 of the normalized embeddings, a float32 scalar.

    z1, z2: (B, d), any floating dtype, not normalized. Negatives are taken from all ranks.
    Source: HaoChen et al. 2021, and `D` in models/spectral.py of jhaochenz96/spectral_contrastive_learning. That code
    only shortens vectors longer than sqrt(mu), whereas Tan et al. 2024 and this function normalize all of them.
    The `spectral_loss` of the Kernel-InfoNCE code differs: it sums the squares of all 2B (2B - 1) ordered pairs of both
    views, including positives, and divides by B (B - 1), so its repelling term weighs about four times as much as
    HaoChen's. This function has HaoChen's weight.
    """
    checks.embeddings(z1=z1, z2=z2)
    z1, z2 = unit(z1), unit(z2)
    columns = gather(z2)
    own = rank_offset(len(z1)) + torch.arange(len(z1), device=z1.device)
    repel = squared_products(z1, columns, own) / (len(z1) * (len(columns) - 1))
    return repel - 2 * (z1 * z2).sum(1).mean()


EXAMPLES = {"spectral": Example(lambda z1, z2, label: spectral(z1, z2))}
