"""What many samples of one duration say: their middle, their spread, and from when on they are steady."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

STEADY_WINDOW = 5
STEADY_TOLERANCE = 0.05


class Spread(NamedTuple):
    """Median and quartiles, in the samples' unit."""

    median: float
    lower: float
    upper: float


def spread(samples: Sequence[float]) -> Spread:
    """ValueError without samples."""
    if not len(samples):
        raise ValueError("a median needs at least one sample")
    lower, median, upper = np.quantile(samples, [0.25, 0.5, 0.75])
    return Spread(float(median), float(lower), float(upper))


def steady(samples: Sequence[float], window: int = STEADY_WINDOW, tolerance: float = STEADY_TOLERANCE) -> int | None:
    """The index from which on the samples are steady; None where they never are, or are fewer than two windows.

    The level is the median of the second half. Steady is the first sample that is within `tolerance` (a share) of the
    level and behind which the median of every `window` samples in a row is, too. Medians forgive a slow step now and
    then, but not a slope.
    """
    if len(samples) < 2 * window:
        return None
    values = np.asarray(samples, float)
    level = np.median(values[len(values) // 2 :])
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, window), axis=1)
    off = np.flatnonzero(np.abs(medians - level) > tolerance * level)
    first = off[-1] + 1 if len(off) else 0
    near = np.flatnonzero(np.abs(values[first:] - level) <= tolerance * level)
    return int(first + near[0]) if first < len(medians) and len(near) else None
