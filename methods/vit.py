"""Vision transformers (ViT) that see all patches of an image or only the kept ones (Dosovitskiy et al. 2021).

The blocks are timm's. Patches are numbered row by row, as masks number them (`loaders/masks.py`).
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.encoder import Encoder

Positions = Literal["learned", "sincos"]
Pool = Literal["class", "mean"]


class Shape(NamedTuple):
    """The size of a ViT: width of a token, number of blocks, and attention heads in each block."""

    width: int
    depth: int
    heads: int


VITS = {  # vit-mini is this project's, for a CPU; the others are from DeiT and timm
    "vit-mini": Shape(64, 4, 4),
    "vit-tiny": Shape(192, 12, 3),
    "vit-small": Shape(384, 12, 6),
    "vit-base": Shape(768, 12, 12),
}


class ViT(Encoder):
    """A vision transformer from images (B, 3, H, W) to a representation after the last norm, (B, dim).

    H and W may be any multiples of the patch.
    width, depth, heads: as in `Shape`. patch: side of a patch, in pixels. size: side of the images, in pixels, for
    whose grid of patches position embeddings are made; for other grids they are interpolated. positions: "learned" or
    fixed ("sincos"). drop_path: probability that the last block is skipped in training; for other blocks it is
    proportional to their depth (stochastic depth, Huang et al. 2016). pool: the representation is the class token
    ("class") or the mean of the patches' tokens ("mean").
    Weights are initialized as in timm's original ViTs, by a truncated normal distribution of standard deviation 0.02.
    Raises ValueError if the patch does not divide the size.
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
        pool: Pool = "class",
    ) -> None:
        from timm.models.vision_transformer import VisionTransformer  # imported here because it takes seconds

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
        self.patch, self.side, self.pool = patch, size // patch, pool

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return (B, dim). kept: int64 (B, K), the numbers of the patches that go through the encoder; None for all."""
        return pooled(self.tokens(x, kept), self.pool)

    def tokens(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the final tokens, (B, 1 + K, dim): the class token, then the patches in the order of `kept`."""
        tokens = self.placed(self.patches(x))
        if kept is not None:
            tokens = taken(tokens, F.pad(kept + 1, (1, 0)))  # the class token has the number 0, patches follow
        return self.through(tokens)

    def patches(self, x: Tensor) -> Tensor:
        """Return the patch embeddings without positions, (B, rows, columns, dim).

        Raises ValueError if the patch does not divide the image.
        """
        height, width = x.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(f"images of {height} x {width} pixels are not divisible into patches of {self.patch}")
        out: Tensor = self.body.patch_embed(x)
        return out

    def placed(self, patches: Tensor) -> Tensor:
        """Add the positions and put the class token first: (B, rows, columns, dim) -> (B, 1 + rows * columns, dim)."""
        rows, columns = patches.shape[1:3]
        first, positions = self.body.pos_embed.split([1, self.side**2], dim=1)
        if (rows, columns) != (self.side, self.side):
            positions = resized(positions.unflatten(1, (self.side, self.side))[0], rows, columns).flatten(0, 1)[None]
        tokens = torch.cat([self.body.cls_token.expand(patches.shape[0], -1, -1), patches.flatten(1, 2)], dim=1)
        return tokens + torch.cat([first, positions], dim=1)

    def through(self, tokens: Tensor) -> Tensor:
        """Apply all blocks and the last norm to tokens, (B, T, dim) -> (B, T, dim)."""
        out: Tensor = self.body.norm(self.body.blocks(tokens))
        return out


def vit(encoder: Encoder, method: str) -> ViT:
    """Return the encoder. Raises ValueError, naming the method, if it is not a ViT."""
    if not isinstance(encoder, ViT):
        raise ValueError(f"{method} takes a ViT: backbone.name must be one of {', '.join(VITS)}")
    return encoder


def pooled(tokens: Tensor, pool: Pool) -> Tensor:
    """Return the representation (B, dim) in tokens (B, 1 + K, dim): the class token, or the mean of the patches'."""
    return tokens[:, 0] if pool == "class" else tokens[:, 1:].mean(1)


def left_out(kept: Tensor, patches: int) -> Tensor:
    """Return the numbers of the patches that are not kept, int64 (B, patches - K), ascending.

    kept: int64 (B, K), numbers of kept patches. patches: number of all patches.
    """
    named = torch.zeros(len(kept), patches, dtype=torch.int64, device=kept.device).scatter(1, kept, 1)
    return named.argsort(dim=1, stable=True)[:, : patches - kept.shape[1]]


def taken(tokens: Tensor, numbers: Tensor) -> Tensor:
    """Return the tokens with these numbers, (B, K, dim). tokens: (B, T, dim). numbers: int64 (B, K)."""
    return tokens.gather(1, numbers[..., None].expand(-1, -1, tokens.shape[-1]))


def resized(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Resize position embeddings, (R, C, dim) -> (rows, columns, dim), bicubic and antialiased, as timm does.

    The result is a product with matrices that `F.interpolate` makes of unit vectors. Using `F.interpolate` directly
    would be simpler, but its backward pass on a GPU adds in arbitrary order, and torch refuses it when deterministic
    algorithms are required.
    """
    with torch.autocast(positions.device.type, enabled=False):
        down, along = (_taps(old, new, positions) for old, new in zip(positions.shape, (rows, columns), strict=False))
        return along @ (down @ positions.flatten(1)).unflatten(1, positions.shape[1:])


def _taps(old: int, new: int, like: Tensor) -> Tensor:
    """Return the matrix (new, old) that resizes `old` values in a line to `new` ones, in dtype and device of `like`."""
    units = torch.eye(old, dtype=like.dtype, device=like.device)[None, None]
    return F.interpolate(units, size=(new, old), mode="bicubic", antialias=True)[0, 0]


def sincos(width: int, rows: int, columns: int) -> Tensor:
    """Return fixed position embeddings, float32 (1 + rows * columns, width), with zeros for the class token first.

    Each embedding holds sines, then cosines of the column at width / 4 frequencies from 1 down to nearly 1 / 10000,
    then the same of the row. This is the order of MAE's official code. Raises ValueError if the width is not divisible
    by 4.
    """
    if width % 4:
        raise ValueError(f"sincos positions need a width divisible by 4, got {width}")
    frequency = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [at.reshape(-1, 1) * frequency for at in (column, row)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return F.pad(table, (0, 0, 1, 0)).float()
