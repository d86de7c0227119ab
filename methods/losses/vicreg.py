"""VICReg: invariance, variance and covariance of two views, no negatives (Bardes et al. 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example, Lightly
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.gather import gather
from twoview.methods.losses.products import squared_off_diagonal


@float32
def vicreg(
    z1: Tensor, z2: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> dict[str, Tensor]:
    """`loss` = the weights times the three terms, and the terms themselves under their names, all float32 scalars.

    invariance: mean squared difference, over B and D. variance: mean_j relu(1 - sqrt(var_j + 1e-4)), the mean of both
    views (the official code's 1/2, which solo-learn has not). covariance: sum_{i != j} cov_ij^2 / D, the sum of both
    views. Variances and covariances are those of all ranks' embeddings, over B - 1.

    z1, z2: (B, D), any floating dtype, not normalized.
    Source: facebookresearch/vicreg, main_vicreg.py.
    """
    checks.embeddings(z1=z1, z2=z2)
    for name, weight in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
        checks.at_least_zero(name, weight)
    everyone = [gather(z1), gather(z2)]
    terms = {
        "invariance": F.mse_loss(z1, z2),
        "variance": torch.stack([_variance(z) for z in everyone]).mean(),
        "covariance": torch.stack([_covariance(z) for z in everyone]).sum(),
    }
    weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return {"loss": total, **terms}


def _variance(z: Tensor) -> Tensor:
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def _covariance(z: Tensor) -> Tensor:
    centered = z - z.mean(0)
    return squared_off_diagonal(centered, centered) / (len(z) - 1) ** 2 / z.shape[1]


EXAMPLES = {"vicreg": Example(lambda z1, z2, label: vicreg(z1, z2)["loss"], lightly=Lightly("VICRegLoss"))}
