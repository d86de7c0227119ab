"""float32 at least, whatever autocast says: the one rule of every loss."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def float32(loss: Callable[P, R]) -> Callable[P, R]:
    """A loss whose half-precision tensors come in as float32 (float64 stays) and which runs outside autocast.

    exp, sums over thousands of candidates and variances lose what matters in 8 or 11 bits.
    """

    @functools.wraps(loss)
    def in_float32(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            wide: Any = loss
            out: R = wide(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})
            return out

    return in_float32


def _widened(value: object) -> object:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value  # type: ignore[attr-defined]
