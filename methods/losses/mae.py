"""MAE's regression of the pixels that the encoder has not seen (He et al. 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example
from twoview.methods.losses.float32 import float32


@float32
def mae(prediction: Tensor, image: Tensor, hidden: Tensor, patch: int, normalize: bool = True) -> Tensor:
    """The mean squared difference between predicted and true pixels of the hidden patches, a float32 scalar.

    prediction: (B, M, 3 * patch^2), any floating dtype. image: (B, 3, H, W). hidden: int64 (B, M), patches' numbers.
    normalize: the truth is each patch's pixels less their mean, over their standard deviation.
    ValueError where the shapes do not agree.
    Source: equation of section 3 in words, and facebookresearch/mae, models_mae.py `forward_loss`.
    """
    checks.patches("prediction", prediction, hidden, 3 * patch**2)
    truth = pixels(image, patch)
    truth = truth.gather(1, hidden[..., None].expand(-1, -1, truth.shape[-1]))
    if normalize:
        mean, std = moments(truth)
        truth = (truth - mean) / std
    return F.mse_loss(prediction, truth)


def pixels(image: Tensor, patch: int) -> Tensor:
    """(B, 3, H, W) -> (B, N, 3 * patch^2): patches row by row, in each its pixels row by row, in each its colors."""
    b, c, height, width = image.shape
    cells = image.permute(0, 2, 3, 1).reshape(b, height // patch, patch, width // patch, patch, c)
    return cells.transpose(2, 3).flatten(3).flatten(1, 2)


def image_of(patches: Tensor, patch: int, rows: int) -> Tensor:
    """The inverse of `pixels`, for a grid of so many rows."""
    b, n, values = patches.shape
    cells = patches.reshape(b, rows, n // rows, patch, patch, values // patch**2)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation) of each patch, (B, N, 1); the variance over one less than its values, plus 1e-6."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


def _example(z1: Tensor, z2: Tensor, label: Tensor) -> Tensor:
    """Of the first numbers of each view: 4 patches of 2 x 2 pixels, an image of 3 x 2 patches."""
    hidden = torch.tensor([[0, 2, 3, 5]], device=z1.device)
    return mae(z1.flatten()[:48].view(1, 4, 12), z2.flatten()[:72].view(1, 3, 6, 4), hidden, patch=2)


EXAMPLES = {"mae": Example(_example, timed=False)}
