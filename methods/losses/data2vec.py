"""The data2vec loss: regress a teacher's representation of patches hidden from the student (Baevski et al. 2022)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example
from twoview.methods.losses.float32 import float32


@float32
def data2vec(prediction: Tensor, target: Tensor, beta: float = 2.0) -> Tensor:
    """Return the mean smooth L1 distance, d^2 / (2 beta) where |d| < beta and |d| - beta / 2 elsewhere.

    prediction, target: (B, M, dim), one row for each of the M hidden patches, any floating dtype. The gradient is not
    stopped here, because the target comes from a teacher without gradient. Returns a float32 scalar. Raises ValueError
    if the shapes differ or beta is not above 0.
    Source: Baevski et al. 2022, equation 3; facebookresearch/data2vec_vision, engine_for_cyclical.py.
    """
    checks.positive("beta", beta)
    checks.patches("prediction", prediction, target[..., 0], target.shape[-1])
    return F.smooth_l1_loss(prediction, target, beta=beta)


def targets(layers: Sequence[Tensor]) -> Tensor:
    """Return the regression target, float32 (B, T, dim): the normalized mean of the normalized block outputs.

    layers: outputs of the teacher's top blocks, (B, T, dim) each. Each token is normalized to mean 0 and variance 1
    (layer norm without weights) in every block's output, and once more in their mean; the second normalization is
    the official command's option `--post_target_layer_norm`.
    """
    width = layers[0].shape[-1:]
    mean = torch.stack([F.layer_norm(layer.float(), width) for layer in layers]).mean(0)
    return F.layer_norm(mean, width)


EXAMPLES = {
    "data2vec": Example(lambda z1, z2, label: data2vec(z1[None], targets([z2[None], z2.flip(1)[None]])), timed=False)
}
