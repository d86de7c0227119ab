"""The Barlow Twins loss: pull the cross-correlation of two views toward the identity (Zbontar et al. 2021)."""

from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example, Lightly
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.gather import gather
from twoview.methods.losses.products import squared_off_diagonal


@float32
def barlow(z1: Tensor, z2: Tensor, off_diagonal: float) -> Tensor:
    """Return sum_i (1 - C_ii)^2 + off_diagonal * sum_{i != j} C_ij^2 as a float32 scalar.

    C is the cross-correlation of the features of view 1 with the features of view 2 over the joined batch of all ranks.
    Means and variances are computed as in BatchNorm: divided by the batch size, with 1e-5 added to the variance.
    z1, z2: (B, D), any floating dtype, not normalized. off_diagonal: lambda in the paper, >= 0.
    Source: Zbontar et al. 2021, equation 1 and algorithm 1.
    """
    checks.embeddings(z1=z1, z2=z2)
    checks.at_least_zero("off_diagonal", off_diagonal)
    one, two = (_standardized(gather(z)) for z in (z1, z2))
    diagonal = (one * two).mean(0)
    return (1 - diagonal).square().sum() + off_diagonal * squared_off_diagonal(one, two) / len(one) ** 2


def _standardized(z: Tensor) -> Tensor:
    """Return the features with mean 0 and variance 1 over the batch."""
    return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()


EXAMPLES = {"barlow": Example(lambda z1, z2, label: barlow(z1, z2, 5e-3), lightly=Lightly("BarlowTwinsLoss"))}
