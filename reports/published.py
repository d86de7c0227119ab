"""What a paper reports for a recipe, compared with our measurement of the recipe."""

import math
from collections.abc import Iterable

import pandas as pd

from twoview.reports.papers import ABSENT, Paper, Row

WORDS = {"knn_top1": "kNN", "knn10_top1": "kNN", "linear_top1": "linear"}


def beside_papers(table: pd.DataFrame, papers: Iterable[Paper], statistic: str = "") -> pd.DataFrame:
    """Return a leaderboard, or its summary over seeds, with three columns filled with the papers' results.

    statistic: the suffix of the accuracies' columns in `table`: empty for a leaderboard, `_mean` for its summary.
    published: the values that a paper reports for the recipe, one for each metric.
    published_knn: number of neighbors and weighting of the paper's kNN.
    within_spread: for each metric that we also measure, whether our value lies within the paper's spread over runs, or
    the difference if no spread is published. If the run changed settings of its recipe, the cell only says so.
    """
    cells: dict[str, list[Row]] = {}
    for row in (row for paper in papers for row in paper.rows):
        if row.recipe and row.value is not None:
            cells.setdefault(row.recipe, []).append(row)
    cells_of_rows = [_cells(row, cells.get(row["recipe"], []), statistic) for _, row in table.iterrows()]
    columns = ["published", "published_knn", "within_spread"]
    return table.assign(**{name: [pair[i] for pair in cells_of_rows] for i, name in enumerate(columns)})


def _cells(row: pd.Series, cells: list[Row], statistic: str) -> tuple[str, str, str]:
    """Return the three cells of a row, from the published cells of its recipe."""
    if not cells:
        return ABSENT, "", ""
    published = "; ".join(f"{_words(cell)} {cell.cell}" for cell in cells)
    rules = "; ".join(dict.fromkeys(cell.knn for cell in cells if cell.knn))
    if row["overridden"]:
        return published, rules, f"not the paper's recipe: {row['overridden']}"
    within = "; ".join(
        f"{_words(cell)} {_within(row[f'{cell.metric}{statistic}'], cell)}" for cell in cells if cell.metric in WORDS
    )
    return published, rules, within


def _words(cell: Row) -> str:
    """Return a metric in words, such as "online top-1"."""
    metric = str(cell.metric)
    return WORDS.get(metric, metric.replace("_top", " top-").replace("top1", "top-1").replace("top5", "top-5"))


def _within(ours: float, cell: Row) -> str:
    """Return whether our value lies within the published spread, in words."""
    if math.isnan(ours):
        return "not measured"
    if cell.spread is None:
        return f"{ours - cell.value:+.2f}, no spread published"  # type: ignore[operator]
    return "yes" if abs(ours - cell.value) <= cell.spread else "no"  # type: ignore[operator]
