"""A decorator that makes a loss compute in float32 or wider, also under autocast. Every loss follows this rule."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def float32(loss: Callable[P, R]) -> Callable[P, R]:
    """Return the loss with autocast disabled and half-precision tensor arguments converted to float32.

    float64 arguments stay float64. bfloat16 and float16 keep 8 and 11 significant bits, too few for exponentials, sums
    over thousands of candidates, and variances.
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
