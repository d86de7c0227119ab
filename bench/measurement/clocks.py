"""Statistics of repeated timings: their median, their spread, and the first steady sample."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

STEADY_WINDOW = 5  # samples whose median must be near the level
STEADY_TOLERANCE = 0.05  # share of the level


class Spread(NamedTuple):
    """Median and quartiles, in the samples' unit."""

    median: float
    lower: float
    upper: float


def spread(samples: Sequence[float]) -> Spread:
    """Return median and quartiles of the samples. Raises ValueError if there are no samples."""
    if not len(samples):
        raise ValueError("a median needs at least one sample")
    lower, median, upper = np.quantile(samples, [0.25, 0.5, 0.75])
    return Spread(float(median), float(lower), float(upper))


def steady(samples: Sequence[float], window: int = STEADY_WINDOW, tolerance: float = STEADY_TOLERANCE) -> int | None:
    """Return the index of the first steady sample; None if there is none, or if there are fewer than two windows.

    The level is the median of the second half of the samples. The first steady sample is the first one that is within
    `tolerance` (a share) of the level and after which the median of any `window` consecutive samples is, too. Medians
    tolerate an occasional slow step, but not a slope.
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
