"""A leaderboard -> rows over seeds: how accurate each recipe gets, and how many seconds it trains for that."""

from typing import Any

import pandas as pd

from twoview.bench.config.recipe import uses_labels
from twoview.reports.cells import Bounded, Column, Spread
from twoview.reports.over_seeds import EXPERIMENT, once_a_seed
from twoview.reports.significance import interval
from twoview.reports.table import frame_of

SAME_TIME = 1.05  # as a ratio: trainings that differ by less take equally long, since a machine's speed drifts as much

COLUMNS = [
    Column("recipe", "recipe", page=1),
    Column("method", "method", page=2),
    Column("dataset", "dataset", page=3),
    Column("backbone", "backbone", page=4),
    Column("seeds", "seeds", 0, page=5),
    Column("epochs", "epochs", 0, page=6),
    Column("batch", "batch", 0, page=7),
    Column("precision", "precision", page=8),
    Column("training_s", "training s", 0, page=9),
    Column("views_per_s", "views/s", 0, page=10),
    Spread("knn_top1", "kNN %", 2, page=11),
    Bounded("above_pixels", "above raw pixels", 2, page=12),
    Bounded("above_untrained", "above untrained", 2, page=13),
    Column("best", "best in its time", page=14),
    Column("machine", "machine"),
]


def accuracy_per_second(board: pd.DataFrame) -> pd.DataFrame:
    """One row an experiment and machine, the most accurate of a dataset and machine first.

    training_s, views_per_s: of a whole training without its judging, the median over seeds. knn_top1: mean and sample
    standard deviation, in percent. above_pixels, above_untrained: the mean over seeds of the points of kNN top-1 above
    that of raw pixels, and of the same seed's untrained encoder; `low` and `high` bound Student's 95 % interval of it.
    best: "yes" where no other recipe of the dataset and machine that trains as long or shorter is more accurate, "no"
    where one is; empty for methods that learn from labels, which are not compared. Experiments that were not timed are
    left out.
    """
    timed = once_a_seed(board[board["training_s"].notna()])
    rows = [
        dict(zip(EXPERIMENT, experiment, strict=True)) | _row(seeds) for experiment, seeds in timed.groupby(EXPERIMENT)
    ]
    table = frame_of(rows, COLUMNS)
    places = table[~table["method"].map(uses_labels).astype(bool)].groupby(["dataset", "machine"])
    for _, rivals in places:
        table.loc[rivals.index, "best"] = [_best(row, rivals) for _, row in rivals.iterrows()]
    order = ["dataset", "machine", "knn_top1_mean", "recipe"]
    return table.sort_values(order, ascending=[True, True, False, True], ignore_index=True)


def _row(seeds: pd.DataFrame) -> dict[str, Any]:
    knn = seeds["knn_top1"]
    row: dict[str, Any] = {
        "seeds": len(seeds),
        "training_s": seeds["training_s"].median(),
        "views_per_s": seeds["views_per_s"].median(),
        "knn_top1_mean": knn.mean(),
        "knn_top1_sd": knn.std(ddof=1),
        "best": "",
    }
    for than in ("pixels", "untrained"):
        gains = (knn - seeds[f"{than}_knn_top1"]).dropna().tolist()
        row |= zip((f"above_{than}", f"above_{than}_low", f"above_{than}_high"), interval(gains), strict=True)
    return row


def _best(row: pd.Series, rivals: pd.DataFrame) -> str:
    as_short = rivals[rivals["training_s"] <= SAME_TIME * row["training_s"]]
    return "yes" if row["knn_top1_mean"] >= as_short["knn_top1_mean"].max() else "no"
