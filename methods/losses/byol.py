"""The BYOL loss: regress one view's prediction onto the other view's target projection (Grill et al. 2020)."""

from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example, Lightly
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.pairs import unit


@float32
def byol(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance 2 - 2 cos between the normalized vectors, as a float32 scalar.

    This is one direction, view 1 to view 2; the caller adds the other one.
    prediction, target: (B, d), any floating dtype, not normalized. The gradient is not stopped here, because the target
    comes from a network without gradient.
    Source: Grill et al. 2020, equation 2.
    """
    checks.embeddings(prediction=prediction, target=target)
    return 2 - 2 * (unit(prediction) * unit(target)).sum(1).mean()


EXAMPLES = {"byol": Example(lambda z1, z2, label: byol(z1, z2), lightly=Lightly("NegativeCosineSimilarity"))}
