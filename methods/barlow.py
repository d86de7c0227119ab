"""Barlow Twins: across two views, each feature correlates with itself and with no other (Zbontar et al. 2021)."""

from typing import Literal

from pydantic import PositiveFloat
from torch import Tensor

from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.heads import ProjectorOptions
from twoview.methods.losses.barlow import EXAMPLES, barlow
from twoview.methods.method import Method
from twoview.methods.settings import Repeats, Width


class BarlowOptions(ProjectorOptions):
    """The `[method]` table of Barlow Twins. The defaults are those of the official code."""

    name: Literal["barlow"] = "barlow"
    hidden: Width = 8192  # width of the projector's hidden layers
    projection: Width = 8192  # width of the projector's output
    layers: Repeats = 3  # number of the projector's linear layers
    off_diagonal: PositiveFloat = 0.0051  # lambda, the weight of correlations between different features
    scale: PositiveFloat = 1.0  # factor on the whole loss; it affects the parameters whose step LARS does not adapt


class Barlow(Method):
    """Pulls the cross-correlation of the projections of two views toward the identity; one forward pass per view."""

    examples = EXAMPLES

    def __init__(self, options: BarlowOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.options = options
        self.projector = options.projector(encoder.dim, bias=False)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        z1, z2 = (self.projector(self.encode(view)) for view in views)
        return {"loss": self.options.scale * barlow(z1, z2, self.options.off_diagonal)}
