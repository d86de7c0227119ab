"""What callers give, checked: one sentence says what must be true and what was found."""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def whole(name: str, value: Any, least: int, below: int | None = None) -> int:
    """The value as an int. ValueError, naming it, for no whole number, or one below `least` or from `below` on."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < least or (below is not None and value >= below):
        bounds = f"at least {least}" if below is None else f"from {least} to {below - 1}"
        raise ValueError(f"{name} must be {bounds}, got {value}")
    return int(value)


def at_least_one(name: str, values: Iterable[T]) -> tuple[T, ...]:
    """The values. ValueError, naming them, where there are none."""
    given = tuple(values)
    if not given:
        raise ValueError(f"{name} must be at least one, got none")
    return given


def truth(name: str, value: Any) -> bool:
    """The value. ValueError, naming it, unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def numbers(name: str, values: Any, count: int) -> None:
    """ValueError, naming them, unless they are so many real numbers, all of them finite."""
    given = values if isinstance(values, tuple | list) and len(values) == count else (None,)
    try:
        finite = all(isinstance(number, Real) and math.isfinite(number) for number in given)
    except OverflowError:  # a whole number that is larger than any float
        finite = False
    if not finite:
        raise ValueError(f"{name} must be {count} finite numbers, got {values!r}")


def several(name: str, values: Any, kind: type[T]) -> tuple[T, ...]:
    """The values. ValueError, naming them, for what is no sequence, and for anything else than this kind in it."""
    if not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a sequence of {kind.__name__}, got {values!r}")
    given = tuple(values)
    for value in given:
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
    return given


def sample_numbers(indices: Any, count: int) -> np.ndarray:
    """int64 (M,): the samples to use of `count`, in their order; a number that stands twice comes twice.

    indices: sample numbers of any integer type, or booleans (count,), True for those to use, as numpy indexes.
    ValueError for anything else, and for a number below 0 or from `count` on.
    """
    given = np.asarray(indices)
    if given.ndim != 1:
        raise ValueError(f"indices must have one dimension, got {given.ndim}")
    if given.dtype == bool:
        if len(given) != count:
            raise ValueError(f"indices that are booleans must be one for each of {count} samples, got {len(given)}")
        return np.flatnonzero(given)
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"indices must be whole numbers or booleans, got {given.dtype}")
    for wrong in given[(given < 0) | (given >= count)]:
        raise ValueError(f"indices must be from 0 to {count - 1}, got {wrong}")
    return given.astype(np.int64)
