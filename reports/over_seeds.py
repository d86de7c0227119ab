"""The leaderboard over seeds: one row for each experiment and machine."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from twoview.reports.cells import Between, Column, Spread
from twoview.reports.leaderboard import SPEEDS
from twoview.reports.significance import interval, mlperf_time, welch
from twoview.reports.table import frame_of


class OverSeeds(Spread):
    """An accuracy with mean and deviation. Its minimum and maximum are also in the frame, for plots and sentences."""

    @property
    def fields(self) -> tuple[str, ...]:
        return *super().fields, f"{self.name}_min", f"{self.name}_max"


# The columns of the table, in the order of the CSV. The docs' page of results shows them as two tables, `results` and
# `results_more`.
COLUMNS = [
    Column("dataset", "dataset", page=2, terminal=2, markdown=1, results=1),
    Column("method", "method", page=1, terminal=1, markdown=2, results=2),
    Column("uses_labels", "uses labels"),
    Column("backbone", "backbone", page=26, markdown=3),
    Column("resolution", "size (px)", 0, page=27),
    Column("epochs", "epochs", 0, page=28, markdown=4),
    Column("batch", "batch", 0, markdown=5),
    Column("precision", "precision"),
    Column("device", "device"),
    Column("machine", "machine"),
    Column("recipe", "recipe", page=29, markdown=19, results=3, results_more=1),
    Column("recipe_hash", "recipe hash"),
    Column("seeds", "seeds", 0, page=3, terminal=3, markdown=6, results=4),
    Column("gain_seeds", "seeds with untrained baseline", 0),
    OverSeeds("knn_top1", "kNN top-1 (%)", 2, page=4, terminal=4, markdown=7, results=5),
    OverSeeds("knn10_top1", "kNN top-1 at k = 10 (%)", 2, page=30, markdown=20),
    Column("knn_rule", "kNN settings", page=31, markdown=21),
    OverSeeds("linear_top1", "linear top-1 (%)", 2, page=11, terminal=9, markdown=10),
    OverSeeds("untrained_knn_top1", "kNN on untrained encoder (%)", 2, page=9, terminal=8, results=6),
    OverSeeds("untrained_linear_top1", "linear on untrained encoder (%)", 2, page=13, terminal=13),
    OverSeeds("pixels_knn_top1", "kNN on raw pixels (%)", 2, page=10, terminal=7, results=7),
    OverSeeds("pixels_linear_top1", "linear on raw pixels (%)", 2, page=14, terminal=12),
    OverSeeds("knn_gain", "kNN gain over untrained (points)", 2, page=7, terminal=5, results=8),
    Column("knn_gain_min", "kNN gain, worst seed (points)", 2, page=8, terminal=6, results=9),
    Between("knn_gain_interval", "kNN gain 95 % CI", 2, page=34),
    OverSeeds("linear_gain", "linear gain over untrained (points)", 2, page=35, results=10),
    Between("linear_gain_interval", "linear gain 95 % CI", 2, page=36),
    Between("knn_interval", "kNN 95 % CI", 2, page=5, markdown=8),
    Between("linear_interval", "linear 95 % CI", 2, page=12, markdown=11),
    Column("knn_p", "p vs. best kNN", 2, small=True, page=6, terminal=14, markdown=9),
    Column("seconds_to_target", "time to kNN target (s)", 1, page=17, terminal=15, markdown=16),
    Column("time_p", "p vs. fastest to target", 2, small=True, page=18),
    Column("training_s", "training time (s)", 0, page=33, results_more=7),
    Column("views_per_s", "views/s", 1, page=19, markdown=14, results_more=2),
    Column("views_per_s_iqr", "views/s IQR", 1),
    Column("seconds_per_epoch", "epoch time (s)", 2, page=20, markdown=15, results_more=3),
    Column("data_wait_share", "time waiting for data", 2, share=True, page=21, results_more=5),
    Column("loader_views_per_s", "loader alone (views/s)", 1),
    Column("model_views_per_s", "model alone (views/s)", 1),
    Column("efficiency", "efficiency (of the slower ceiling)", 2, share=True, page=22, terminal=10, results_more=4),
    Column("peak_memory_mib", "peak host memory (MiB)", 0, page=24, markdown=17, results_more=6),
    Column("peak_device_mib", "peak device memory (MiB)", 0, page=25, markdown=18),
    Column("bottleneck", "bottleneck", page=23, terminal=11),
    Column("overridden", "overridden settings"),
    Column("published", "published", page=15, terminal=16, markdown=12),
    Column("published_knn", "published kNN settings", page=32, markdown=22),
    Column("within_spread", "within published spread", page=16, terminal=17, markdown=13),
]
# The columns that identify an experiment; its runs differ only in their seed.
EXPERIMENT = [
    "dataset",
    "method",
    "uses_labels",
    "backbone",
    "resolution",
    "epochs",
    "batch",
    "precision",
    "device",
    "machine",
    "recipe",
    "recipe_hash",
    "knn_rule",
]
# The columns that are summarized by mean, standard deviation, minimum and maximum over seeds.
ACCURACIES = [
    "knn_top1",
    "knn10_top1",
    "linear_top1",
    "untrained_knn_top1",
    "untrained_linear_top1",
    "pixels_knn_top1",
    "pixels_linear_top1",
    "knn_gain",
    "linear_gain",
]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a leaderboard over seeds: one row per experiment and machine, sorted by dataset, machine, mean kNN top-1.

    Accuracies and gains over the untrained encoder have mean, `sd` (sample standard deviation), min and max over seeds.
    kNN and linear top-1 of the trained encoder and the gains also have the bounds of Student's 95 % interval of the
    mean. For one seed, `sd` and these bounds are NaN. Speeds and memory are medians over seeds.
    seeds: number of seeds. If a seed was run several times, only its latest run counts. gain_seeds: number of seeds
    that have an untrained baseline.
    seconds_to_target: the mean by MLPerf's rule (`mlperf_time`).
    knn_p, time_p: p of Welch's t-test between the seeds of this experiment and the seeds of the best experiment on the
    dataset and machine, by kNN top-1 and by time to target; NaN for the best experiment itself.
    published, published_knn, within_spread: empty; `beside_papers` fills them.
    """
    seeds = dict(list(once_a_seed(table).groupby(EXPERIMENT)))
    rows = [dict(zip(EXPERIMENT, experiment, strict=True)) | _over_seeds(runs) for experiment, runs in seeds.items()]
    order = ["dataset", "machine", "knn_top1_mean", "method", "recipe_hash"]
    over_seeds = frame_of(rows, COLUMNS)
    over_seeds = over_seeds.sort_values(order, ascending=[True, True, False, True, True], ignore_index=True)
    over_seeds["knn_p"] = _against_the_best(over_seeds, seeds, "knn_top1", -over_seeds["knn_top1_mean"])
    over_seeds["time_p"] = _against_the_best(over_seeds, seeds, "seconds_to_target", over_seeds["seconds_to_target"])
    return over_seeds


def once_a_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the latest row of each seed of each experiment."""
    return table.sort_values(["date", "name"]).drop_duplicates([*EXPERIMENT, "seed"], keep="last")


def _against_the_best(
    over_seeds: pd.DataFrame, seeds: Mapping[Any, pd.DataFrame], column: str, order: pd.Series
) -> pd.Series:
    """Return the p of Welch's t-test of each row against the best row with the same dataset and machine.

    column: the leaderboard's column whose values over seeds are compared. order: the best row has the lowest value; its
    own p is NaN. seeds: the leaderboard's rows of each experiment.
    """
    p = pd.Series(math.nan, index=over_seeds.index)
    for _, rows in over_seeds.groupby(["dataset", "machine"]):
        if order[rows.index].notna().any():
            best = order[rows.index].idxmin()
            samples = {i: seeds[tuple(rows.loc[i, EXPERIMENT])][column].tolist() for i in rows.index}
            for i in samples:
                p[i] = welch(samples[i], samples[best]) if i != best else math.nan
    return p


def _over_seeds(runs: pd.DataFrame) -> dict[str, Any]:
    """Return the row of one experiment from its runs, one per seed."""
    row: dict[str, Any] = {"seeds": len(runs), "gain_seeds": int(runs["knn_gain"].count())}
    for accuracy in ACCURACIES:
        values = runs[accuracy]
        row |= {
            f"{accuracy}_mean": values.mean(),
            f"{accuracy}_sd": values.std(ddof=1),
            f"{accuracy}_min": values.min(),
            f"{accuracy}_max": values.max(),
        }
    for probe in ("knn", "linear"):
        for column, name in ((f"{probe}_top1", probe), (f"{probe}_gain", f"{probe}_gain")):
            _, low, high = interval(runs[column].dropna().tolist())
            row |= {f"{name}_interval_low": low, f"{name}_interval_high": high}
    row["seconds_to_target"] = mlperf_time(runs["seconds_to_target"].tolist())
    row["overridden"] = ", ".join(sorted(set(runs["overridden"]) - {""}))
    row |= {speed: runs[speed].median() for speed in SPEEDS}
    row["bottleneck"] = " or ".join(sorted(set(runs["bottleneck"]) - {""}))
    return row
