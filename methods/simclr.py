"""SimCLR: two views of an image attract each other and repel all other images (Chen et al. 2020)."""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.heads import ProjectorOptions
from twoview.methods.losses.infonce import EXAMPLES, nt_xent
from twoview.methods.losses.log_sum import EXAMPLES as TILES
from twoview.methods.method import Method

GLOBAL = 2  # number of global views, which show a large part of the image; all other views are local crops


class SimCLROptions(ProjectorOptions):
    """The `[method]` table of SimCLR."""

    name: Literal["simclr"] = "simclr"
    temperature: PositiveFloat = 0.5  # temperature tau of NT-Xent


class SimCLR(Method):
    """NT-Xent between the projections of two views of each image.

    A recipe may have more views, which are local crops, smaller than the first two, as in the multi-crop of Caron
    et al. 2020 (SwAV). The loss is then the mean of NT-Xent over all pairs of views that include one of the first two.
    """

    examples = EXAMPLES | TILES

    def __init__(self, options: SimCLROptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.temperature = options.temperature
        self.projector = options.projector(encoder.dim)

    @classmethod
    def views_for(cls, options: SimCLROptions, views: tuple[View, ...]) -> tuple[View, ...]:
        sizes = [view.size for view in views]
        large, local = sizes[:GLOBAL], sizes[GLOBAL:]
        if len(large) < GLOBAL or len({*large}) > 1 or len({*local}) > 1 or max(local, default=0) >= large[0]:
            raise ValueError(
                "simclr takes two views of one size and any number of local crops of one smaller size, "
                f"but the recipe's views have the sizes {', '.join(map(str, sizes))}"
            )
        return views

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        # All views of one size share a forward pass: this keeps the hardware busier, and BatchNorm sees them together,
        # as in the paper.
        z = [*self._project(views[:GLOBAL])]
        if local := views[GLOBAL:]:
            z += self._project(local)
        # All pairs of views whose first one is global; both are, or the other one is a local crop.
        losses = [nt_xent(z[one], other, self.temperature) for one in range(GLOBAL) for other in z[one + 1 :]]
        return {"loss": torch.stack(losses).mean()}

    def _project(self, views: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the projections (B, d) of each view. views: (B, 3, H, W) each, all of one size."""
        return self.projector(self.encode(torch.cat(views))).chunk(len(views))
