"""Statistics over seeds: the time to a target accuracy by MLPerf's rule, Welch's t-test of two experiments, Student's
interval of a mean difference, and the verdict that follows from it.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean, stdev

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from twoview.bench.evidence import Run

# Target for top-1 of kNN on training images (neighbors and queries are training images), in percent, for the datasets
# that have a target. twoview chose the targets before any run; they come from no paper.
TARGETS = {"cifar10": 70.0, "cifar100": 35.0, "fashion-mnist": 80.0, "imagenette": 70.0}
TARGETS_IN_WORDS = (
    "Time to target: seconds of training until kNN on training images reaches "
    + ", ".join(f"{target:g} % on {dataset}" for dataset, target in TARGETS.items())
    + "; these targets were chosen by twoview, not by a paper"
)
FEWEST = 3  # minimum number of seeds for a time to target (fastest and slowest are dropped) and for a verdict
LEVEL = 0.95  # confidence level of the intervals
POWER = 0.8  # statistical power, by convention: the share of repetitions that detect an existing effect
SAME = 1e-9  # differences closer than this count as equal: far below the share of one image, above rounding errors
# The probes by which two encoders are compared, and the columns of a comparison by one probe.
PROBES, PARTS = ("knn", "linear"), ("difference", "low", "high", "verdict")
AGREES, CONTRADICTS, NOT_RESOLVED = "agrees", "contradicts", "not resolved"

Seeds = dict[int, Run]  # seed -> its latest run
Differences = dict[int, float]  # seed -> difference in top-1, in points


def course(run: Run) -> list[tuple[float, float]]:
    """Return seconds of training and top-1 of kNN on training images, after each epoch with such a kNN evaluation.

    The list is empty if the run has no such evaluation. The seconds include the kNN evaluations.
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
    """Return the seconds until the target was first reached: infinite if never, NaN if target or course is missing.

    target: top-1 in percent. judged: the course, as from `course`.
    """
    if target is None or not judged:
        return math.nan
    return next((seconds for seconds, accuracy in judged if accuracy >= target), math.inf)


def mlperf_time(seconds: Sequence[float]) -> float:
    """Return the mean of the seeds' times to target without the fastest and the slowest, as MLPerf Training's rules do.

    A seed that never reached the target is infinitely slow. The mean is NaN for fewer than three seeds, if a time is
    NaN, or if more than one seed never reached the target.
    """
    if len(seconds) < FEWEST or np.isnan(seconds).any():
        return math.nan
    mean = float(np.mean(sorted(seconds)[1:-1]))
    return mean if math.isfinite(mean) else math.nan


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the two-sided p of Welch's t-test of two samples over seeds. The two may have different seeds.

    It is NaN if a sample has fewer than two values or a value that is not finite, or if neither sample has any spread.
    """
    samples = [np.asarray(side, dtype=float) for side in (one, other)]
    if any(len(side) < 2 or not np.isfinite(side).all() for side in samples) or not any(map(np.ptp, samples)):
        return math.nan
    moments = [number for side in samples for number in (side.mean(), side.std(ddof=1), len(side))]
    return float(stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue)


def differences(first: Seeds, second: Seeds, probe: str) -> Differences:
    """Return for each common seed the first run's top-1 by the probe minus the second run's, in points."""
    key = f"{probe}_top1"
    return {
        seed: getattr(first[seed].accuracy, key) - getattr(second[seed].accuracy, key)
        for seed in sorted(first.keys() & second.keys())
    }


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and the bounds of its Student's 95 % interval.

    The bounds are NaN for a single difference, and if all differences are equal: their spread of 0 would give an
    interval of width 0, which no measurement justifies. Without differences the mean is NaN too.
    """
    if not differences:
        return math.nan, math.nan, math.nan
    mean = fmean(differences)
    if len(differences) == 1 or np.ptp(differences) < SAME:
        return mean, math.nan, math.nan
    # Student's interval: the mean, plus and minus the t quantile (n - 1 degrees of freedom) times the standard error.
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1))
    reach = quantile * stdev(differences) / math.sqrt(len(differences))
    return mean, mean - reach, mean + reach


def resolvable(differences: Sequence[float]) -> float:
    """Return the smallest true mean difference that would be resolved with a power of 80 %.

    That is, the `interval` would lie above 0 in 80 % of repetitions with as many differences of the same spread. It is
    NaN if the differences have no interval.
    """
    count = len(differences)
    if count < 2 or np.ptp(differences) < SAME:
        return math.nan
    # The mean divided by its standard error has a noncentral t distribution, whose noncentrality is the true mean in
    # standard errors. Find the one for which the t statistic exceeds the quantile with probability POWER.
    quantile = stats.t.ppf((1 + LEVEL) / 2, count - 1)
    errors = brentq(lambda errors: stats.nct.sf(quantile, count - 1, errors) - POWER, 0, 100)
    return float(errors) * stdev(differences) / math.sqrt(count)


def verdict(low: float, high: float, count: int) -> str:
    """Return the verdict on a claim that predicts a positive difference, from the interval of the mean difference.

    low, high: the interval. count: number of differences; with fewer than three the verdict is "not resolved".
    """
    if count < FEWEST or not (low > 0 or high < 0):
        return NOT_RESOLVED
    return AGREES if low > 0 else CONTRADICTS
