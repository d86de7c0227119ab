"""Bootstrap intervals of the cost of new code relative to old code, for samples that are correlated in time.

The samples of one run are not independent: a busy neighbor or a drop of the clock rate slows many steps in a row, and
an interval that assumed independence would be far too narrow. So a run is cut into BLOCKS stretches, each is
represented by its median, and these medians are resampled (the non-overlapping block bootstrap, Carlstein 1986). An
epoch or a round counts as a stretch already. If a side has several runs, the runs are resampled first, because two runs
differ by more than their steps suggest. If old and new were measured in turn, the pairs are resampled, so that what
slowed both cancels in their ratio. If several pairs of processes did that, the pairs of processes are resampled, since
a process may keep a difference for as long as it lives.

The center is the interquartile mean, that is the mean of the middle half. A rare slow sample moves it little, and
unlike a median it does not jump between the few values that can be drawn. The random draws are seeded, so that the same
samples give the same interval.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95  # confidence level of the intervals
BLOCKS = 20  # stretches that a run is cut into

Verdict = Literal["worse", "better", "same", "unclear"]


class Cost(NamedTuple):
    """The ratio of new to old for a quantity where less is better, with its bootstrap interval (low, high)."""

    ratio: float
    low: float
    high: float

    def verdict(self, allowed: float) -> Verdict:
        """Return "worse", "better" or "same" if the whole interval supports that, else "unclear".

        allowed: the share that the new code may lose and still count as the same, such as 0.05.
        """
        if self.low > 1 + allowed:
            return "worse"
        if self.high < 1 / (1 + allowed):
            return "better"
        return "same" if self.low >= 1 / (1 + allowed) and self.high <= 1 + allowed else "unclear"

    def widened(self, equal: "Cost") -> "Cost":
        """Return this cost with its interval widened by the machine's drift.

        equal: the cost, measured at the same time, of work that was the same on both sides. If its interval excludes 1,
        the low end is divided and the high end multiplied by the factor between 1 and the nearer end of that interval.
        If it contains 1, nothing changes: so small a deviation is chance, which this interval covers already.
        """
        off = max(equal.low, 1 / equal.high, 1.0)
        return Cost(self.ratio, self.low / off, self.high * off)


def middle(samples: np.ndarray) -> np.ndarray:
    """Return the interquartile mean over the last axis: (..., N) -> (...). Fewer than four samples are all averaged."""
    count = samples.shape[-1]
    cut = count // 4
    inner: np.ndarray = np.sort(samples, axis=-1)[..., cut : count - cut]
    return np.asarray(inner.mean(axis=-1))


def stretches(samples: Sequence[float]) -> np.ndarray:
    """Return the medians of at most BLOCKS stretches of consecutive samples, all of about the same length."""
    return np.array([np.median(part) for part in np.array_split(samples, min(BLOCKS, len(samples)))])


def unpaired_cost(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Cost | None:
    """Return the cost from separate runs of each side, each run a sequence of positive samples.

    None if a side has fewer than two samples.
    """
    if sum(map(len, old)) < 2 or sum(map(len, new)) < 2:
        return None
    rng = np.random.default_rng(0)
    (old_middle, old_draws), (new_middle, new_draws) = _drawn(old, rng), _drawn(new, rng)
    return _cost(new_middle - old_middle, new_draws - old_draws)


def paired_cost(old: Sequence[float], new: Sequence[float]) -> Cost:
    """Return the cost from samples taken in turn, at least two pairs: old[i] was measured next to new[i]."""
    return _cost_of_logs(np.log(new) - np.log(old))


def trial_cost(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Cost:
    """Return the cost from pairs of processes, at least two, each of which gives a sequence of rounds taken in turn."""
    return _cost_of_logs(
        np.array([middle(np.log(after) - np.log(before)) for before, after in zip(old, new, strict=True)])
    )


def accuracy_cost(old: float, old_images: int, new: float, new_images: int) -> Cost:
    """Return the cost of two accuracies, which is the ratio of old to new.

    old, new: shares of correctly classified test images, from 0 to 1. The test images are treated as a random sample,
    so the draws are binomial. An accuracy of zero images counts as half an image, since a ratio to 0 has no meaning.
    """
    rng = np.random.default_rng(0)
    old_draws = rng.binomial(old_images, old, RESAMPLES) / old_images
    new_draws = rng.binomial(new_images, new, RESAMPLES) / new_images
    old_logs, new_logs = (
        np.log(np.maximum([share, *draws], 0.5 / images))
        for share, draws, images in ((old, old_draws, old_images), (new, new_draws, new_images))
    )
    cost = old_logs - new_logs
    return _cost(float(cost[0]), cost[1:])


def _cost_of_logs(logs: np.ndarray) -> Cost:
    """Return the cost from the logarithms of the paired ratios of new to old."""
    return _cost(float(middle(logs)), _draws(logs, np.random.default_rng(0)))


def _drawn(runs: Sequence[Sequence[float]], rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Return the center of the logarithms of one side's samples, and RESAMPLES bootstrap draws of that center."""
    logs = [np.log(stretches(run)) for run in runs if len(run)]
    middles = np.array([middle(run) for run in logs])
    within = np.array([_draws(run, rng) for run in logs])
    if len(logs) == 1:
        return float(middles[0]), within[0]
    # Two stages: draw the runs, then for each of them one of its own draws.
    chosen = rng.integers(len(logs), size=(RESAMPLES, len(logs)))
    between = within[chosen, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    return float(middles.mean()), _inflated(between, float(middles.mean()), len(logs))


def _draws(logs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return RESAMPLES bootstrap draws of the center of `logs`."""
    drawn = middle(logs[rng.integers(len(logs), size=(RESAMPLES, len(logs)))])
    return _inflated(drawn, float(middle(logs)), len(logs))


def _inflated(draws: np.ndarray, around: float, count: int) -> np.ndarray:
    """Return the draws, stretched about `around` so that their variance is unbiased.

    The variance of a bootstrap over N items is too small by the factor (N - 1) / N, which matters for three seeds.
    """
    return around + (draws - around) * np.sqrt(count / (count - 1)) if count > 1 else draws


def _cost(middle_log: float, draws: np.ndarray) -> Cost:
    """Return the cost and its percentile interval, from the logarithm of the ratio and bootstrap draws of that."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Cost(*(float(np.exp(value)) for value in (middle_log, low, high)))
