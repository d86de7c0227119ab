"""MAE: encode a quarter of the patches and predict the pixels of the others (He et al. 2022)."""

from typing import Annotated, Literal

import torch
from pydantic import AliasChoices, Field
from torch import Tensor, nn

from twoview.loaders.masks import Mask, view_mask
from twoview.loaders.views import View
from twoview.methods.accumulate import by_parts
from twoview.methods.encoder import Encoder
from twoview.methods.losses.mae import EXAMPLES, mae
from twoview.methods.method import Method, Options
from twoview.methods.settings import Repeats, Width
from twoview.methods.vit import ViT, left_out, sincos, vit

Share = Annotated[float, Field(gt=0, lt=1)]


# Older records have the British spelling of this key.
_NORMALIZE = Field(default=True, validation_alias=AliasChoices("normalize", "normalise"))


class MAEOptions(Options):
    """The `[method]` table of MAE. The defaults are those of the official code."""

    name: Literal["mae"] = "mae"
    masked: Share = 0.75  # share of the patches that the encoder does not see
    normalize: bool = _NORMALIZE  # whether the pixels to predict are normalized patch by patch
    decoder_width: Width = 512  # width of the decoder's tokens
    decoder_depth: Repeats = 8  # number of the decoder's blocks
    decoder_heads: Width = 16  # attention heads in each block of the decoder


class MAE(Method):
    """Encodes only the kept patches of an image and predicts the pixels of the hidden ones.

    The prediction is made by a small decoder, which is discarded after training. It sees the tokens of the kept patches
    and a mask token for each hidden one.
    """

    takes = 1
    default_views = "mae"
    needs_vit = True
    examples = EXAMPLES
    encoder: ViT

    def __init__(self, options: MAEOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        views, encoder = self.views_for(options, views), vit(encoder, options.name)
        super().__init__(encoder, views, self.masks_for(options, views, encoder.patch))
        self.options = options
        self.decoder = Decoder(encoder, views[0].size, options)

    @classmethod
    def masks_for(cls, options: MAEOptions, views: tuple[View, ...], patch: int) -> tuple[Mask, ...]:
        return (view_mask(views, 0, patch, 1 - options.masked),)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        (image,), (kept,) = views, masks
        hidden, prediction = self.predicted(image, kept)
        return {"loss": mae(prediction, image, hidden, self.encoder.patch, self.options.normalize)}

    @by_parts
    def predicted(self, image: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of the M hidden patches, int64 (B, M), and their predicted pixels, (B, M, 3 * patch^2).

        image: (B, 3, H, W). kept: int64 (B, K), the numbers of the kept patches.
        """
        hidden = left_out(kept, self.masks[0].patches)
        return hidden, self.decoder(self.encoder.tokens(image, kept), kept, hidden)


class Decoder(nn.Module):
    """Predicts the pixels of the hidden patches from the tokens of the kept ones.

    It has timm's blocks and fixed positions. As in the official code, the linear layers are initialized by Xavier
    uniform and the mask token by a normal distribution of standard deviation 0.02.
    size: side of the images, in pixels.
    """

    def __init__(self, encoder: ViT, size: int, options: MAEOptions) -> None:
        from timm.models.vision_transformer import Block  # imported here because it takes seconds

        super().__init__()
        width, side = options.decoder_width, size // encoder.patch
        self.embed = nn.Linear(encoder.dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.register_buffer("positions", sincos(width, side, side)[None], persistent=False)
        blocks = [Block(width, options.decoder_heads, qkv_bias=True) for _ in range(options.decoder_depth)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, 3 * encoder.patch**2)
        self.positions: Tensor
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, kept: Tensor, hidden: Tensor) -> Tensor:
        """Return the predicted pixels of the hidden patches, (B, M, 3 * patch^2).

        tokens: (B, 1 + K, dim), the class token first. kept, hidden: int64 (B, K) and (B, M), together all patches.
        The decoder's sequence is the class token, the kept patches, the hidden patches. Their order does not matter,
        because each token carries its position embedding.
        """
        h = self.embed(tokens)
        mask = self.mask_token.to(h.dtype).expand(len(h), hidden.shape[1], -1)
        # The class token has position 0, and patch n has position n + 1.
        numbers = torch.cat([torch.zeros_like(kept[:, :1]), 1 + kept, 1 + hidden], dim=1)
        h = torch.cat([h, mask], dim=1) + self.positions[0][numbers]
        h = self.blocks(h)[:, -hidden.shape[1] :]
        out: Tensor = self.predict(self.norm(h))
        return out
