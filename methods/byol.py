"""BYOL: predict how a moving average of the network projects the other view; no negatives (Grill et al. 2020)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoview.loaders.views import View
from twoview.methods import ema
from twoview.methods.encoder import Encoder
from twoview.methods.heads import ProjectorOptions, mlp
from twoview.methods.losses.byol import EXAMPLES, byol
from twoview.methods.method import Method
from twoview.methods.settings import Width

Momentum = Annotated[float, Field(ge=0, le=1)]


class BYOLOptions(ProjectorOptions):
    """The `[method]` table of BYOL. The defaults are those of the paper."""

    name: Literal["byol"] = "byol"
    hidden: Width = 4096  # width of the projector's hidden layers
    projection: Width = 256  # width of the projector's output
    predictor: Width = 4096  # width of the predictor's hidden layer
    momentum: Momentum = 0.996  # momentum of the target network's moving average at the first step
    final_momentum: Momentum = 1.0  # momentum at the last step, reached along half a cosine


class BYOL(Method):
    """Predict, from each view, the target network's projection of the other view.

    Each view has its own forward pass through the online and the target network, because BatchNorm must not mix views
    of different augmentations.
    """

    examples = EXAMPLES

    def __init__(self, options: BYOLOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.options = options
        self.projector = options.projector(encoder.dim)
        self.predictor = mlp(options.projection, options.predictor, options.projection)
        self.target = ema.frozen_copy(nn.Sequential(encoder, self.projector))

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        p1, p2 = (self.predictor(self.projector(self.encode(view))) for view in views)
        with torch.no_grad():
            t1, t2 = (self.target(view) for view in views)
        return {"loss": byol(p1, t2) + byol(p2, t1)}

    @property
    def averaged(self) -> nn.Module | None:
        """See `Method.averaged`."""
        return self.target[0]

    def after_step(self, progress: float) -> None:
        momentum = ema.cosine(self.options.momentum, self.options.final_momentum, progress)
        ema.follow(self.target, nn.Sequential(self.encoder, self.projector), momentum)
