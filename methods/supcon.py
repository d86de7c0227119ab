"""SupCon: all views of all images of a class attract each other and repel other classes (Khosla et al. 2020)."""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.heads import ProjectorOptions
from twoview.methods.losses.supcon import EXAMPLES, supcon
from twoview.methods.method import Method


class SupConOptions(ProjectorOptions):
    """The `[method]` table of SupCon."""

    name: Literal["supcon"] = "supcon"
    temperature: PositiveFloat = 0.1  # temperature tau of the loss


class SupCon(Method):
    """The supervised contrastive loss on SimCLR's projections, a reference that learns from labels."""

    examples = EXAMPLES

    def __init__(self, options: SupConOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.temperature = options.temperature
        self.projector = options.projector(encoder.dim)

    @classmethod
    def uses_labels(cls, options: SupConOptions) -> bool:
        return True

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        z1, z2 = self.projector(self.encode(torch.cat(views))).chunk(2)
        return {"loss": supcon(z1, z2, label, self.temperature)}
