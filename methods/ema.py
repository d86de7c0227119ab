"""Moving averages of weights: the target network of BYOL, the momentum encoder of MoCo.

Only parameters are averaged. BatchNorm's running statistics of the average are its own: it runs in training mode, on
the statistics of its own batches, as in MoCo's, solo-learn's and lightly's code.
"""

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """A copy that no gradient reaches. As a submodule of the method it is in every checkpoint."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, momentum: float | Tensor) -> None:
    """average <- momentum * average + (1 - momentum) * module, all parameters in a few kernels.

    momentum: a scalar tensor where a CUDA graph records the step; that takes a kernel a parameter.
    """
    averages: list[Tensor] = list(average.parameters())
    share = 1 - momentum
    shares: Any = [share.to(averages[0].dtype)] * len(averages) if isinstance(share, Tensor) else share
    torch._foreach_lerp_(averages, list(module.parameters()), shares)


def cosine(first: float, last: float, progress: float) -> float:
    """From `first` at progress 0 to `last` at 1 along half a cosine: BYOL's schedule (Grill et al. 2020)."""
    cos: Any = torch.cos if isinstance(progress, Tensor) else math.cos
    share: float = (cos(math.pi * progress) + 1) / 2
    return last - (last - first) * share
