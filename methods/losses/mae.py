"""The MAE loss: regress the pixels of the patches that the encoder has not seen (He et al. 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example
from twoview.methods.losses.float32 import float32


@float32
def mae(prediction: Tensor, image: Tensor, hidden: Tensor, patch: int, normalize: bool = True) -> Tensor:
    """Return the mean squared error between predicted and true pixels of the hidden patches, a float32 scalar.

    prediction: (B, M, 3 * patch^2), any floating dtype. image: (B, 3, H, W). hidden: int64 (B, M), the numbers of the
    hidden patches, counted row by row. patch: side of a patch, in pixels.
    normalize: whether the true pixels of each patch are first normalized to mean 0 and standard deviation 1.
    Raises ValueError if the shapes do not agree.
    Source: He et al. 2022, section 3 (in words), and `forward_loss` in models_mae.py of facebookresearch/mae.
    """
    checks.patches("prediction", prediction, hidden, 3 * patch**2)
    truth = pixels(image, patch)
    truth = truth.gather(1, hidden[..., None].expand(-1, -1, truth.shape[-1]))
    if normalize:
        mean, std = moments(truth)
        truth = (truth - mean) / std
    return F.mse_loss(prediction, truth)


def pixels(image: Tensor, patch: int) -> Tensor:
    """Cut images (B, 3, H, W) into N patches, (B, N, 3 * patch^2).

    Patches are in row order; within a patch the pixels are in row order; within a pixel come its three colors.
    """
    b, c, height, width = image.shape
    cells = image.permute(0, 2, 3, 1).reshape(b, height // patch, patch, width // patch, patch, c)
    return cells.transpose(2, 3).flatten(3).flatten(1, 2)


def image_of(patches: Tensor, patch: int, rows: int) -> Tensor:
    """Join patches (B, N, 3 * patch^2) to images (B, 3, H, W), the inverse of `pixels`.

    rows: number of rows in the grid of patches.
    """
    b, n, values = patches.shape
    cells = patches.reshape(b, rows, n // rows, patch, patch, values // patch**2)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each patch, (B, N, 1) each.

    The variance is the unbiased one (divided by the number of values - 1), with 1e-6 added.
    """
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


def _example(z1: Tensor, z2: Tensor, label: Tensor) -> Tensor:
    """Return the loss of 4 hidden patches of 2 x 2 pixels in an image of 3 x 2 patches.

    The first values of z1 serve as the prediction, and the first values of z2 as the image.
    """
    hidden = torch.tensor([[0, 2, 3, 5]], device=z1.device)
    return mae(z1.flatten()[:48].view(1, 4, 12), z2.flatten()[:72].view(1, 3, 6, 4), hidden, patch=2)


EXAMPLES = {"mae": Example(_example, timed=False)}
