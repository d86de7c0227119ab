"""Over seeds: how long until a target is reached, by MLPerf's rule; whether two experiments differ, by Welch's t; what
a mean difference is, by Student's interval, and which verdict that allows.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean, stdev

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from twoview.bench.evidence import Run

# Top-1 of kNN among training images, in percent: twoview's own choice, fixed before any run, for the datasets that have
# one. No paper names a target.
TARGETS = {"cifar10": 70.0, "cifar100": 35.0, "fashion-mnist": 80.0, "imagenette": 70.0}
TARGETS_IN_WORDS = (
    "s to target: seconds of training until kNN among training images reaches "
    + ", ".join(f"{target:g} % on {dataset}" for dataset, target in TARGETS.items())
    + "; these targets are twoview's own choice, no paper's"
)
FEWEST = 3  # seeds of a time, of which the fastest and the slowest are dropped, and of a verdict
LEVEL = 0.95  # of the intervals
POWER = 0.8  # by convention: of a repetition to resolve an effect that is there
SAME = 1e-9  # differences this near are equal: far below an image's share, far above what rounding leaves
# What is compared of two encoders, and what a comparison of it consists of.
PROBES, PARTS = ("knn", "linear"), ("difference", "low", "high", "verdict")
AGREES, CONTRADICTS, NOT_RESOLVED = "agrees", "contradicts", "not resolved"

Seeds = dict[int, Run]  # by seed, the latest run of each
Differences = dict[int, float]  # by seed


def course(run: Run) -> list[tuple[float, float]]:
    """Seconds of training, and top-1 of kNN among training images, after every epoch that was judged.

    Empty where none was. The seconds of judging are part of the training's.
    """
    if run.training is None:
        return []
    probe = run.recipe.get("probe")
    every = probe.get("online_knn_epochs", 0) if isinstance(probe, dict) else 0
    if not isinstance(every, int) or every < 1:
        return []
    seconds = list(accumulate(run.training.epoch_seconds))[every - 1 :: every]
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


def differences(first: Seeds, second: Seeds, probe: str) -> Differences:
    """Of the seeds that both have, the first's top-1 by the probe less the second's, in points."""
    key = f"{probe}_top1"
    return {
        seed: getattr(first[seed].accuracy, key) - getattr(second[seed].accuracy, key)
        for seed in sorted(first.keys() & second.keys())
    }


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and the bounds of Student's interval of it; NaN where they are too few for them, or all the same.

    Equal differences have no spread to judge by: an interval of no width would be surer than any measurement is.
    """
    if not differences:
        return math.nan, math.nan, math.nan
    mean = fmean(differences)
    if len(differences) == 1 or np.ptp(differences) < SAME:
        return mean, math.nan, math.nan
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1))
    reach = quantile * stdev(differences) / math.sqrt(len(differences))
    return mean, mean - reach, mean + reach


def resolvable(differences: Sequence[float]) -> float:
    """The least mean difference whose `interval` lies above 0 in 80 % of repetitions, with the spread that these have;
    NaN where they have no interval.

    The mean over its standard error is then of the noncentral t distribution, whose noncentrality is that mean.
    """
    count = len(differences)
    if count < 2 or np.ptp(differences) < SAME:
        return math.nan
    quantile = stats.t.ppf((1 + LEVEL) / 2, count - 1)
    errors = brentq(lambda errors: stats.nct.sf(quantile, count - 1, errors) - POWER, 0, 100)
    return float(errors) * stdev(differences) / math.sqrt(count)


def verdict(low: float, high: float, count: int) -> str:
    """Of an interval that lies above 0 where a claim is right, and of how many differences it comes."""
    if count < FEWEST or not (low > 0 or high < 0):
        return NOT_RESOLVED
    return AGREES if low > 0 else CONTRADICTS
