"""Over seeds: how long until a target is reached, by MLPerf's rule; whether two experiments differ, by Welch's t."""

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from scipy import stats

from bench.evidence import Run

# Top-1 of kNN among training images, in percent: fixed before any run, by twoview, for the datasets that have one.
TARGETS = {"cifar10": 70.0, "cifar100": 35.0, "fashion-mnist": 80.0, "imagenette": 70.0}
FEWEST = 3  # seeds, of which the fastest and the slowest are dropped


def course(run: Run) -> list[tuple[float, float]]:
    """Seconds of training, and top-1 of kNN among training images, after every epoch that was judged.

    Empty where none was. The seconds of judging are part of the training's.
    """
    if run.training is None:
        return []
    every = run.recipe.get("probe", {}).get("online_knn_epochs", 0)
    seconds = list(accumulate(run.training.epoch_seconds))[every - 1 :: every] if every else []
    return list(zip(seconds, run.training.logged.get("online_knn_top1", []), strict=False))


def seconds_to(target: float | None, judged: Sequence[tuple[float, float]]) -> float:
    """Until the target was first reached: infinite if it never was, NaN without a target or a course."""
    if target is None or not judged:
        return math.nan
    return next((seconds for seconds, accuracy in judged if accuracy >= target), math.inf)


def mlperf_time(seconds: Sequence[float]) -> float:
    """The mean of the seeds' seconds without the fastest and the slowest.

    NaN of fewer than three seeds, or where more than one of them has no time; one that never reached the target is the
    slowest, as in the rules of MLPerf Training.
    """
    if len(seconds) < FEWEST or np.isnan(seconds).any():
        return math.nan
    mean = float(np.mean(sorted(seconds)[1:-1]))
    return mean if math.isfinite(mean) else math.nan


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p of Welch's t over seeds, which need not be the same ones; NaN where it cannot tell anything."""
    samples = [np.asarray(side, dtype=float) for side in (one, other)]
    if any(len(side) < 2 or not np.isfinite(side).all() for side in samples) or not any(map(np.ptp, samples)):
        return math.nan
    moments = [number for side in samples for number in (side.mean(), side.std(ddof=1), len(side))]
    return float(stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue)
