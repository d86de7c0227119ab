"""The VICReg loss: invariance, variance and covariance of two views, without negatives (Bardes et al. 2022)."""

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
    """Return `loss`, the weighted sum of the three terms, and each term under its name; all are float32 scalars.

    invariance: the mean squared difference between the views, over B and D.
    variance: mean_j relu(1 - sqrt(var_j + 1e-4)), averaged over the two views (the factor 1/2 of the official code,
    which solo-learn lacks).
    covariance: sum_{i != j} cov_ij^2 / D, summed over the two views.
    Variances and covariances are taken over the joined batch of all ranks and divided by its size - 1.

    z1, z2: (B, D), any floating dtype, not normalized. invariance, variance, covariance: weights of the terms, >= 0.
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
    """Return the hinge mean_j relu(1 - sqrt(var_j + 1e-4)) of one view."""
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def _covariance(z: Tensor) -> Tensor:
    """Return sum_{i != j} cov_ij^2 / D of one view."""
    centered = z - z.mean(0)
    return squared_off_diagonal(centered, centered) / (len(z) - 1) ** 2 / z.shape[1]


EXAMPLES = {"vicreg": Example(lambda z1, z2, label: vicreg(z1, z2)["loss"], lightly=Lightly("VICRegLoss"))}
