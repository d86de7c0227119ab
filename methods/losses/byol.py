"""BYOL's regression of one view's prediction on the other view's target (Grill et al. 2020)."""

from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example, Lightly
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.pairs import unit


@float32
def byol(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean squared distance of the unit vectors, 2 - 2 cos, one direction of the two.

    prediction, target: (B, d), any floating dtype, not normalized. No gradient is stopped here: the target comes from
    a network that has none. Returns a float32 scalar.
    Source: Grill et al. 2020, equation 2.
    """
    checks.embeddings(prediction=prediction, target=target)
    return 2 - 2 * (unit(prediction) * unit(target)).sum(1).mean()


EXAMPLES = {"byol": Example(lambda z1, z2, label: byol(z1, z2), lightly=Lightly("NegativeCosineSimilarity"))}
