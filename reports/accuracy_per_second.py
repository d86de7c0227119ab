"""Accuracy against training time: the accuracy of each recipe over seeds, and its training time in seconds."""

from typing import Any

import pandas as pd

from twoview.reports.cells import Bounded, Column, Spread
from twoview.reports.over_seeds import EXPERIMENT, once_a_seed
from twoview.reports.significance import interval
from twoview.reports.table import frame_of

SAME_TIME = 1.05  # runs whose times differ by a smaller ratio count as equally long, since a machine's speed drifts

COLUMNS = [
    Column("recipe", "recipe", page=1, terminal=1),
    Column("method", "method", page=2),
    Column("uses_labels", "uses labels"),
    Column("dataset", "dataset", page=3),
    Column("backbone", "backbone", page=4, terminal=7),
    Column("seeds", "seeds", 0, page=5, terminal=9),
    Column("epochs", "epochs", 0, page=6, terminal=10),
    Column("batch", "batch", 0, page=7, terminal=11),
    Column("precision", "precision", page=8),
    Column("training_s", "training time (s)", 0, page=9, terminal=2),
    Column("views_per_s", "views/s", 1, page=10, terminal=8),
    Spread("knn_top1", "kNN top-1 (%)", 2, page=11, terminal=3),
    Bounded("above_pixels", "kNN gain over raw pixels (points)", 2, page=12, terminal=4),
    Bounded("above_untrained", "kNN gain over untrained (points)", 2, page=13, terminal=5),
    Column("best", "most accurate for its time", page=14, terminal=6),
    Column("machine", "machine"),
]


def accuracy_per_second(board: pd.DataFrame) -> pd.DataFrame:
    """Return one row per experiment and machine, sorted by dataset, machine and descending kNN top-1.

    board: the leaderboard. Experiments whose training was not timed are skipped.
    training_s, views_per_s: time and rate of a whole training run without the evaluation after it, medians over seeds.
    knn_top1: mean and sample standard deviation over seeds, in percent.
    above_pixels, above_untrained: kNN top-1 minus the kNN top-1 of raw pixels or of the same seed's untrained encoder,
    in points: the mean over seeds, with `low` and `high`, the bounds of Student's 95 % interval of that mean. best:
    "no" if, on the same dataset and machine, a recipe with the same or a shorter training time is more accurate, else
    "yes"; empty for methods that learn from labels, which are not compared.
    """
    timed = once_a_seed(board[board["training_s"].notna()])
    rows = [
        dict(zip(EXPERIMENT, experiment, strict=True)) | _row(seeds) for experiment, seeds in timed.groupby(EXPERIMENT)
    ]
    table = frame_of(rows, COLUMNS)
    places = table[table["uses_labels"] != "yes"].groupby(["dataset", "machine"])
    for _, rivals in places:
        table.loc[rivals.index, "best"] = [_best(row, rivals) for _, row in rivals.iterrows()]
    order = ["dataset", "machine", "knn_top1_mean", "recipe"]
    return table.sort_values(order, ascending=[True, True, False, True], ignore_index=True)


def _row(seeds: pd.DataFrame) -> dict[str, Any]:
    """Return the row of one experiment from its rows of the leaderboard, one per seed."""
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
    """Return "yes" if a row is at least as accurate as all rivals with the same or a shorter training time, else
    "no".
    """
    as_short = rivals[rivals["training_s"] <= SAME_TIME * row["training_s"]]
    return "yes" if row["knn_top1_mean"] >= as_short["knn_top1_mean"].max() else "no"
