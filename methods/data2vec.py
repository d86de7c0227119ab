"""data2vec on images: predict a moving-average teacher's representation of hidden patches (Baevski et al. 2022)."""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from twoview.loaders.masks import Mask, view_mask
from twoview.loaders.views import View
from twoview.methods import ema
from twoview.methods.accumulate import by_parts
from twoview.methods.encoder import Encoder
from twoview.methods.losses.data2vec import EXAMPLES, data2vec, targets
from twoview.methods.method import Method, Options
from twoview.methods.settings import Repeats, Width
from twoview.methods.vit import ViT, left_out, taken, vit

Share = Annotated[float, Field(gt=0, lt=1)]
Momentum = Annotated[float, Field(ge=0, le=1)]


class Data2VecOptions(Options):
    """The `[method]` table of data2vec. The defaults are those of the official command for ViT-B."""

    name: Literal["data2vec"] = "data2vec"
    masked: Share = 0.612  # share of the patches hidden from the student; the default is 120 of 196 patches
    smallest: Width = 16  # smallest number of patches in a masked block
    layers: Repeats = 6  # number of the teacher's top blocks whose mean output is the target
    beta: PositiveFloat = 2.0  # distance at which the smooth L1 loss turns from squared to absolute
    momentum: Momentum = 0.999  # momentum of the teacher's moving average at the first step
    final_momentum: Momentum = 0.9998  # momentum after the rise
    rising: Share = 0.05  # share of the run in which the momentum rises linearly (official command: 25,000 steps)


class Data2Vec(Method):
    """A student predicts the representation that a teacher, its moving average, has of the patches hidden from it.

    The student sees mask tokens in place of the hidden patches (as in BEiT), the teacher sees the whole image. The
    target is the normalized mean of the outputs of the teacher's top blocks. The teacher uses no stochastic depth
    (drop_path), as in the official code. Unlike the official code, this one lacks BEiT's relative positions and layer
    scale and uses the position embeddings of the encoder. Whether the official evaluation uses the student or the
    teacher could not be read; here the probes see the student.
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
            raise ValueError(f"data2vec's layers must be at most the backbone's {depth} blocks, got {options.layers}")
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

    @by_parts
    def student(self, image: Tensor, hidden: Tensor) -> Tensor:
        """Return the student's tokens of all N patches, (B, N, dim), with hidden patches replaced by the mask token.

        image: (B, 3, H, W). hidden: int64 (B, M), the numbers of the hidden patches.
        """
        patches = self.encoder.patches(image)
        # True at hidden patches, on the (B, rows, columns) grid.
        masked = torch.zeros(patches.shape[:3], dtype=torch.bool, device=image.device).flatten(1)
        masked = masked.scatter(1, hidden, True).view(patches.shape[:3])
        patches = torch.where(masked[..., None], self.mask_token.to(patches.dtype), patches)
        return self.encoder.through(self.encoder.placed(patches))[:, 1:]

    @torch.no_grad()
    @by_parts
    def target(self, image: Tensor) -> Tensor:
        """Return the target of every patch, (B, N, dim), from the teacher's top blocks. image: (B, 3, H, W), whole."""
        tokens, outputs = self.teacher.placed(self.teacher.patches(image)), []
        for block in self.teacher.body.blocks:
            tokens = block(tokens)
            outputs.append(tokens[:, 1:])
        return targets(outputs[-self.options.layers :])

    @property
    def averaged(self) -> nn.Module | None:
        """See `Method.averaged`."""
        return self.teacher

    def after_step(self, progress: float) -> None:
        o = self.options
        left = 1 - progress / o.rising  # share of the linear rise that is still to come
        left = (left + abs(left)) / 2  # max(left, 0), in a form that also works on a tensor
        ema.follow(self.teacher, self.encoder, o.final_momentum - (o.final_momentum - o.momentum) * left)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        return self
