"""Checks of arguments. Each error is one sentence that says what must be true and what was found."""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def whole(name: str, value: Any, least: int, below: int | None = None) -> int:
    """Return the value as an int.

    Raises ValueError with its name, unless it is a whole number with least <= value < below.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < least or (below is not None and value >= below):
        bounds = f"at least {least}" if below is None else f"from {least} to {below - 1}"
        raise ValueError(f"{name} must be {bounds}, got {value}")
    return int(value)


def at_least_one(name: str, values: Iterable[T]) -> tuple[T, ...]:
    """Return the values as a tuple. Raises ValueError with their name if there are none."""
    given = tuple(values)
    if not given:
        raise ValueError(f"{name} must have at least one entry, got none")
    return given


def truth(name: str, value: Any) -> bool:
    """Return the value as a bool. Raises ValueError with its name unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def numbers(name: str, values: Any, count: int) -> None:
    """Raise ValueError with their name unless the values are a tuple or list of `count` finite real numbers."""
    given = values if isinstance(values, tuple | list) and len(values) == count else (None,)
    try:
        finite = all(isinstance(number, Real) and math.isfinite(number) for number in given)
    except OverflowError:  # a whole number larger than any float
        finite = False
    if not finite:
        raise ValueError(f"{name} must be {count} finite numbers, got {values!r}")


def several(name: str, values: Any, kind: type[T]) -> tuple[T, ...]:
    """Return the values as a tuple. Raises ValueError with their name unless they are a sequence of this type."""
    if not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a sequence of {kind.__name__}, got {values!r}")
    given = tuple(values)
    for value in given:
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
    return given


def sample_numbers(indices: Any, count: int) -> np.ndarray:
    """Return the numbers of the samples to use, int64 (M,), in the given order; duplicates are kept.

    indices: sample numbers of any integer type, or booleans (count,) that are True for the samples to use, as in
    numpy's indexing. count: the number of samples that there are.
    Raises ValueError for anything else, and for a number below 0 or at or above `count`.
    """
    given = np.asarray(indices)
    if given.ndim != 1:
        raise ValueError(f"indices must have one dimension, got {given.ndim}")
    if given.dtype == bool:
        if len(given) != count:
            raise ValueError(f"boolean indices must be one for each of the {count} samples, got {len(given)}")
        return np.flatnonzero(given)
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"indices must be whole numbers or booleans, got {given.dtype}")
    for wrong in given[(given < 0) | (given >= count)]:
        raise ValueError(f"indices must be from 0 to {count - 1}, got {wrong}")
    return given.astype(np.int64)
