"""SimCLR: two views of an image attract, all other images repel (Chen et al. 2020)."""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from loaders.views import View
from methods.backbones import Encoder
from methods.heads import ProjectorOptions
from methods.losses.infonce import nt_xent
from methods.method import Method


class SimCLROptions(ProjectorOptions):
    """The `[method]` table of SimCLR."""

    name: Literal["simclr"] = "simclr"
    temperature: PositiveFloat = 0.5  # tau of NT-Xent


class SimCLR(Method):
    """NT-Xent between the projections of two views of each image."""

    def __init__(self, options: SimCLROptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        if len(views) != 2:
            raise ValueError(f"simclr takes two views, and the recipe's views are {len(views)}")
        super().__init__(encoder, views)
        self.temperature = options.temperature
        self.projector = options.projector(encoder.dim)

    def loss(self, views: tuple[Tensor, ...], label: Tensor) -> dict[str, Tensor]:
        # One forward for both views keeps the hardware busier, and BatchNorm sees both, as in the paper.
        z1, z2 = self.projector(self.encode(torch.cat(views))).chunk(2)
        return {"loss": nt_xent(z1, z2, self.temperature)}
