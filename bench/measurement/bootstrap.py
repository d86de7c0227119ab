"""How sure a cost of new code over old is: bootstrap intervals of a ratio, for samples that hang together in time.

The samples of one run are not independent: a busy neighbor or a clock that drops slows many steps in a row, and an
interval that took them for independent would be far too narrow. So a run is cut into BLOCKS stretches, each stretch is
its median, and those are drawn (the non-overlapping block bootstrap, Carlstein 1986); an epoch or a round is a stretch
already. Of several runs a side, the runs are drawn first, because two runs differ by more than their steps say. Where
old and new were measured in turn, the pairs are drawn: what was slow for both falls out of their ratio. Where that was
done by several pairs of processes, those are drawn: a process may keep a difference for as long as it lives.

The middle is the mean of the middle half (the interquartile mean), which neither a rare slow sample nor the lattice of
few medians moves much. The draws are seeded: the same samples give the same interval.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
BLOCKS = 20

Verdict = Literal["worse", "better", "same", "unclear"]


class Cost(NamedTuple):
    """New over old of something that is better the smaller it is, and the bootstrap interval of that."""

    ratio: float
    low: float
    high: float

    def verdict(self, allowed: float) -> Verdict:
        """Worse, better or the same where the whole interval says so; `allowed` is the share that may be lost."""
        if self.low > 1 + allowed:
            return "worse"
        if self.high < 1 / (1 + allowed):
            return "better"
        return "same" if self.low >= 1 / (1 + allowed) and self.high <= 1 + allowed else "unclear"

    def widened(self, equal: "Cost") -> "Cost":
        """Longer at both ends by what `equal`, the cost of equal work meanwhile, is surely away from one.

        Less than that is chance, which this interval has seen as well; dividing by it would only bring its noise in.
        """
        off = max(equal.low, 1 / equal.high, 1.0)
        return Cost(self.ratio, self.low / off, self.high * off)


def middle(samples: np.ndarray) -> np.ndarray:
    """(..., N) -> (...): the mean of the middle half, of all where they are fewer than four."""
    count = samples.shape[-1]
    cut = count // 4
    inner: np.ndarray = np.sort(samples, axis=-1)[..., cut : count - cut]
    return np.asarray(inner.mean(axis=-1))


def stretches(samples: Sequence[float]) -> np.ndarray:
    """The medians of at most BLOCKS stretches of neighbors, all about as long."""
    return np.array([np.median(part) for part in np.array_split(samples, min(BLOCKS, len(samples)))])


def unpaired_cost(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Cost | None:
    """The cost by the runs of each side, each a sequence of positive samples; None where a side has one sample."""
    if sum(map(len, old)) < 2 or sum(map(len, new)) < 2:
        return None
    rng = np.random.default_rng(0)
    (old_middle, old_draws), (new_middle, new_draws) = _drawn(old, rng), _drawn(new, rng)
    return _cost(new_middle - old_middle, new_draws - old_draws)


def paired_cost(old: Sequence[float], new: Sequence[float]) -> Cost:
    """The cost by samples taken in turn, at least two: the first of old beside the first of new, and so on."""
    return _cost_of_logs(np.log(new) - np.log(old))


def trial_cost(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Cost:
    """The cost by samples taken in turn by pairs of processes, at least two, each a sequence of rounds."""
    return _cost_of_logs(
        np.array([middle(np.log(after) - np.log(before)) for before, after in zip(old, new, strict=True)])
    )


def accuracy_cost(old: float, old_images: int, new: float, new_images: int) -> Cost:
    """The cost of two accuracies, each a share of test images that might have been others: binomial draws.

    None of the images counts as half an image, since a ratio to 0 says nothing.
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
    return _cost(float(middle(logs)), _draws(logs, np.random.default_rng(0)))


def _drawn(runs: Sequence[Sequence[float]], rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """The middle of a side's logarithms, and RESAMPLES bootstrap draws of it."""
    logs = [np.log(stretches(run)) for run in runs if len(run)]
    middles = np.array([middle(run) for run in logs])
    within = np.array([_draws(run, rng) for run in logs])
    if len(logs) == 1:
        return float(middles[0]), within[0]
    chosen = rng.integers(len(logs), size=(RESAMPLES, len(logs)))
    between = within[chosen, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    return float(middles.mean()), _inflated(between, float(middles.mean()), len(logs))


def _draws(logs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drawn = middle(logs[rng.integers(len(logs), size=(RESAMPLES, len(logs)))])
    return _inflated(drawn, float(middle(logs)), len(logs))


def _inflated(draws: np.ndarray, around: float, count: int) -> np.ndarray:
    """A bootstrap's variance is short by (N - 1) / N, which matters for three seeds."""
    return around + (draws - around) * np.sqrt(count / (count - 1)) if count > 1 else draws


def _cost(middle_log: float, draws: np.ndarray) -> Cost:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Cost(*(float(np.exp(value)) for value in (middle_log, low, high)))
