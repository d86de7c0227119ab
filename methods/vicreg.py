"""VICReg: views agree, every feature keeps its variance, features are decorrelated (Bardes, Ponce & LeCun 2022)."""

from typing import Literal

from pydantic import NonNegativeFloat
from torch import Tensor

from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.heads import ProjectorOptions
from twoview.methods.losses.vicreg import EXAMPLES, vicreg
from twoview.methods.method import Method
from twoview.methods.settings import Repeats, Width


class VICRegOptions(ProjectorOptions):
    """The `[method]` table of VICReg. The defaults are those of the official code."""

    name: Literal["vicreg"] = "vicreg"
    hidden: Width = 8192  # width of the expander's hidden layers
    projection: Width = 8192  # width of the expander's output
    layers: Repeats = 3  # number of the expander's linear layers
    invariance: NonNegativeFloat = 25.0  # weight of the squared distance between views
    variance: NonNegativeFloat = 25.0  # weight of the hinge on each feature's standard deviation, a mean over two views
    covariance: NonNegativeFloat = 1.0  # weight of the squared covariances between features


class VICReg(Method):
    """Invariance, variance and covariance of the expanded embeddings of two views, with one forward pass per view."""

    examples = EXAMPLES

    def __init__(self, options: VICRegOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.options = options
        self.projector = options.projector(encoder.dim, bias=False)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        z1, z2 = (self.projector(self.encode(view)) for view in views)
        o = self.options
        return vicreg(z1, z2, o.invariance, o.variance, o.covariance)
