"""Moving averages of weights, such as the target network of BYOL and the momentum encoder of MoCo.

Only parameters are averaged. The averaged network has its own BatchNorm running statistics: it runs in training mode
and normalizes by the statistics of its own batches, as in the code of MoCo, solo-learn and lightly.
"""

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """Return a copy without gradients. A method holds it as a submodule, so that every checkpoint contains it."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, momentum: float | Tensor) -> None:
    """Update the average in place: average <- momentum * average + (1 - momentum) * module.

    momentum: a number, for which all parameters are updated in a few kernels; or a scalar tensor if a CUDA graph
    records the step, which takes one kernel per parameter.
    """
    averages: list[Tensor] = list(average.parameters())
    share = 1 - momentum
    shares: Any = [share.to(averages[0].dtype)] * len(averages) if isinstance(share, Tensor) else share
    torch._foreach_lerp_(averages, list(module.parameters()), shares)


def cosine(first: float, last: float, progress: float) -> float:
    """Return the value at `progress` of BYOL's schedule: from `first` at 0 to `last` at 1 along half a cosine.

    last - (last - first) * (cos(pi * progress) + 1) / 2. progress: a number, or a scalar tensor in a CUDA graph.
    Source: Grill et al. 2020.
    """
    cos: Any = torch.cos if isinstance(progress, Tensor) else math.cos
    share: float = (cos(math.pi * progress) + 1) / 2
    return last - (last - first) * share
