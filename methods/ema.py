"""Moving averages of weights: the target network of BYOL, the momentum encoder of MoCo.

Only parameters are averaged. BatchNorm's running statistics of the average are its own: it runs in training mode, on
the statistics of its own batches, as in MoCo's, solo-learn's and lightly's code.
"""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """A copy that no gradient reaches. As a submodule of the method it is in every checkpoint."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """average <- momentum * average + (1 - momentum) * module, all parameters in a few kernels."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - momentum)


def cosine(first: float, last: float, progress: float) -> float:
    """From `first` at progress 0 to `last` at 1 along half a cosine: BYOL's schedule (Grill et al. 2020)."""
    return last - (last - first) * (math.cos(math.pi * progress) + 1) / 2
