"""data2vec's regression of what a teacher makes of the patches that the student has not seen (Baevski et al. 2022)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example
from twoview.methods.losses.float32 import float32


@float32
def data2vec(prediction: Tensor, target: Tensor, beta: float = 2.0) -> Tensor:
    """The mean smooth L1 distance: d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere; a float32 scalar.

    prediction, target: (B, M, dim) of the hidden patches, any floating dtype. No gradient is stopped here: the target
    comes from a teacher that has none. ValueError where the shapes differ, or beta is not above 0.
    Source: Baevski et al. 2022, equation 3; facebookresearch/data2vec_vision, engine_for_cyclical.py.
    """
    checks.positive("beta", beta)
    checks.patches("prediction", prediction, target[..., 0], target.shape[-1])
    return F.smooth_l1_loss(prediction, target, beta=beta)


def targets(layers: Sequence[Tensor]) -> Tensor:
    """(B, T, dim), float32: the mean of the blocks' outputs, each token normalized in each of them and in the mean.

    layers: (B, T, dim) each. Normalized to mean 0 and variance 1, without weights; the second time is the official
    command's `--post_target_layer_norm`.
    """
    width = layers[0].shape[-1:]
    mean = torch.stack([F.layer_norm(layer.float(), width) for layer in layers]).mean(0)
    return F.layer_norm(mean, width)


EXAMPLES = {
    "data2vec": Example(lambda z1, z2, label: data2vec(z1[None], targets([z2[None], z2.flip(1)[None]])), timed=False)
}
