"""Vision transformers that see all patches of an image, or only those that are kept (Dosovitskiy et al. 2021).

The blocks are timm's. Patches are numbered row by row, as masks number them (`loaders/masks.py`).
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.encoder import Encoder

Positions = Literal["learned", "sincos"]


class Shape(NamedTuple):
    """Of a ViT: the width of a token, the number of its blocks, and of the heads of each."""

    width: int
    depth: int
    heads: int


VITS = {  # mini is ours, for a CPU; the others are DeiT's and timm's
    "vit-mini": Shape(64, 4, 4),
    "vit-tiny": Shape(192, 12, 3),
    "vit-small": Shape(384, 12, 6),
    "vit-base": Shape(768, 12, 12),
}


class ViT(Encoder):
    """(B, 3, H, W) -> (B, dim), the class token behind the last norm; for any H and W that the patch divides.

    patch: side in pixels. size: side of the images whose grid has positions of its own; other grids' are interpolated.
    positions: learned, or fixed ("sincos"). drop_path: chance that the last block is skipped, the others' in
    proportion to their depth (Huang et al. 2016). Weights are drawn as timm's original ViTs are: normal of 0.02, cut.
    ValueError if the patch does not divide the size.
    """

    body: Any  # timm's VisionTransformer

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        size: int,
        positions: Positions = "learned",
        drop_path: float = 0.0,
    ) -> None:
        from timm.models.vision_transformer import VisionTransformer  # here, for it takes seconds to import

        if size % patch:
            raise ValueError(f"images of {size} pixels are not divisible into patches of {patch}")
        body = VisionTransformer(
            img_size=size,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            num_classes=0,
            dynamic_img_size=True,
            drop_path_rate=drop_path,
        )
        if positions == "sincos":
            del body.pos_embed
            body.register_buffer("pos_embed", sincos(width, size // patch, size // patch)[None], persistent=False)
        super().__init__(body, width)
        self.patch, self.side = patch, size // patch

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept: int64 (B, K), the patches that go through the encoder, or all."""
        return self.tokens(x, kept)[:, 0]

    def tokens(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, 1 + K, dim): the class token, then the patches, in the order of `kept`."""
        tokens = self.placed(self.patches(x))
        if kept is not None:
            tokens = taken(tokens, F.pad(kept + 1, (1, 0)))
        return self.through(tokens)

    def patches(self, x: Tensor) -> Tensor:
        """(B, rows, columns, dim): every patch by itself, without its position. ValueError where they do not fit."""
        height, width = x.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(f"images of {height} x {width} pixels are not divisible into patches of {self.patch}")
        out: Tensor = self.body.patch_embed(x)
        return out

    def placed(self, patches: Tensor) -> Tensor:
        """(B, rows, columns, dim) -> (B, 1 + rows * columns, dim): positions added, the class token in front."""
        rows, columns = patches.shape[1:3]
        first, positions = self.body.pos_embed.split([1, self.side**2], dim=1)
        if (rows, columns) != (self.side, self.side):
            positions = resized(positions.unflatten(1, (self.side, self.side))[0], rows, columns).flatten(0, 1)[None]
        tokens = torch.cat([self.body.cls_token.expand(len(patches), -1, -1), patches.flatten(1, 2)], dim=1)
        return tokens + torch.cat([first, positions], dim=1)

    def through(self, tokens: Tensor) -> Tensor:
        """(B, T, dim) -> the same: all blocks and the last norm."""
        out: Tensor = self.body.norm(self.body.blocks(tokens))
        return out


def vit(encoder: Encoder, method: str) -> ViT:
    """The encoder, as what it is. ValueError naming the method where it is no ViT."""
    if not isinstance(encoder, ViT):
        raise ValueError(f"{method} takes a ViT: backbone.name must be one of {', '.join(VITS)}")
    return encoder


def left_out(kept: Tensor, patches: int) -> Tensor:
    """int64 (B, patches - K), ascending: of 0 .. patches - 1 those that `kept`, int64 (B, K), does not name."""
    named = torch.zeros(len(kept), patches, dtype=torch.int64, device=kept.device).scatter(1, kept, 1)
    return named.argsort(dim=1, stable=True)[:, : patches - kept.shape[1]]


def taken(tokens: Tensor, numbers: Tensor) -> Tensor:
    """(B, T, dim), int64 (B, K) -> (B, K, dim): row b's tokens of these numbers."""
    return tokens.gather(1, numbers[..., None].expand(-1, -1, tokens.shape[-1]))


def resized(positions: Tensor, rows: int, columns: int) -> Tensor:
    """(R, C, dim) -> (rows, columns, dim), bicubic and antialiased, as timm resizes positions.

    By products with what `F.interpolate` makes of unit vectors: its own backward pass adds up in any order on a GPU,
    and is refused where two runs are to be bit-equal.
    """
    with torch.autocast(positions.device.type, enabled=False):
        down, along = (_taps(old, new, positions) for old, new in zip(positions.shape, (rows, columns), strict=False))
        return along @ (down @ positions.flatten(1)).unflatten(1, positions.shape[1:])


def _taps(old: int, new: int, like: Tensor) -> Tensor:
    """(new, old): the shares that the places of a line of `old` have in those of a line of `new`."""
    units = torch.eye(old, dtype=like.dtype, device=like.device)[None, None]
    return F.interpolate(units, size=(new, old), mode="bicubic", antialias=True)[0, 0]


def sincos(width: int, rows: int, columns: int) -> Tensor:
    """float32 (1 + rows * columns, width): fixed positions, zeros for the class token in front.

    Sines, then cosines of the column at width / 4 frequencies from 1 down to nearly 1 / 10000, then those of the row:
    the order of MAE's official code. ValueError if 4 does not divide the width.
    """
    if width % 4:
        raise ValueError(f"sincos positions need a width that 4 divides, not {width}")
    frequency = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [at.reshape(-1, 1) * frequency for at in (column, row)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return F.pad(table, (0, 0, 1, 0)).float()
