"""data2vec on images: predict what a moving average of the network makes of what is hidden (Baevski et al. 2022)."""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from twoview.loaders.masks import Mask, view_mask
from twoview.loaders.views import View
from twoview.methods import ema
from twoview.methods.encoder import Encoder
from twoview.methods.losses.data2vec import EXAMPLES, data2vec, targets
from twoview.methods.method import Method, Options
from twoview.methods.settings import Repeats, Width
from twoview.methods.vit import ViT, left_out, taken, vit

Share = Annotated[float, Field(gt=0, lt=1)]
Momentum = Annotated[float, Field(ge=0, le=1)]


class Data2VecOptions(Options):
    """The `[method]` table of data2vec; the defaults are those of the official command for ViT-B."""

    name: Literal["data2vec"] = "data2vec"
    masked: Share = 0.612  # share of the patches that the student does not see: 120 of 196
    smallest: Width = 16  # patches of a masked block, at least
    layers: Repeats = 6  # top blocks of the teacher whose outputs are the target
    beta: PositiveFloat = 2.0  # where the loss turns from squared to absolute
    momentum: Momentum = 0.999  # of the teacher at the first step
    final_momentum: Momentum = 0.9998  # later
    rising: Share = 0.05  # share of the training in which it gets there, along a line; 25,000 steps of the command's


class Data2Vec(Method):
    """The student sees all places, with a mask token for hidden patches (BEiT); the teacher sees the whole image.

    The target is the mean of the teacher's top blocks, normalized. The teacher skips no block by chance, as in the
    official code. Not in ours: BEiT's relative positions and layer scale; positions are the encoder's own. Which of the
    two the official evaluation sees could not be read; here the probes see the student.
    """

    takes = 1
    default_views = "data2vec"
    needs_vit = True
    examples = EXAMPLES
    encoder: ViT

    def __init__(self, options: Data2VecOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        views, encoder = self.views_for(options, views), vit(encoder, options.name)
        depth = len(encoder.body.blocks)
        if options.layers > depth:
            raise ValueError(f"data2vec's layers must be at most the backbone's {depth} blocks, not {options.layers}")
        super().__init__(encoder, views, self.masks_for(options, views, encoder.patch))
        self.options = options
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.dim))
        self.head = nn.Linear(encoder.dim, encoder.dim)
        self.teacher = ema.frozen_copy(encoder).eval()

    @classmethod
    def masks_for(cls, options: Data2VecOptions, views: tuple[View, ...], patch: int) -> tuple[Mask, ...]:
        return (view_mask(views, 0, patch, 1 - options.masked, "block", options.smallest),)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        (image,), (kept,) = views, masks
        hidden = left_out(kept, self.masks[0].patches)
        prediction = self.head(taken(self.student(image, hidden), hidden))
        return {"loss": data2vec(prediction, taken(self.target(image), hidden), self.options.beta)}

    def student(self, image: Tensor, hidden: Tensor) -> Tensor:
        """(B, N, dim): what the student makes of every place, the hidden patches replaced by the mask token."""
        patches = self.encoder.patches(image)
        masked = torch.zeros(patches.shape[:3], dtype=torch.bool, device=image.device).flatten(1)
        masked = masked.scatter(1, hidden, True).view(patches.shape[:3])
        patches = torch.where(masked[..., None], self.mask_token.to(patches.dtype), patches)
        return self.encoder.through(self.encoder.placed(patches))[:, 1:]

    @torch.no_grad()
    def target(self, image: Tensor) -> Tensor:
        """(B, N, dim): what the teacher's top blocks make of every patch of the whole image."""
        tokens, outputs = self.teacher.placed(self.teacher.patches(image)), []
        for block in self.teacher.body.blocks:
            tokens = block(tokens)
            outputs.append(tokens[:, 1:])
        return targets(outputs[-self.options.layers :])

    def after_step(self, progress: float) -> None:
        o = self.options
        left = 1 - progress / o.rising
        left = (left + abs(left)) / 2  # no less than 0, of a tensor too
        ema.follow(self.teacher, self.encoder, o.final_momentum - (o.final_momentum - o.momentum) * left)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        return self
