"""What a paper reports of the same recipe, beside what was measured."""

import math
from collections.abc import Iterable

import pandas as pd

from twoview.reports.papers import ABSENT, Paper, Row

WORDS = {"knn_top1": "kNN", "knn10_top1": "kNN", "linear_top1": "linear"}


def beside_papers(table: pd.DataFrame, papers: Iterable[Paper], statistic: str = "") -> pd.DataFrame:
    """A leaderboard, or its summary (statistic: `_mean`), with what papers report in three of its columns.

    published: what a paper reports of the recipe, of each metric. published_knn: the rule of its kNN. within_spread:
    whether ours lies within its spread, of each metric that is ours too; nothing is said where the run's recipe is not
    the paper's, or the spread not known.
    """
    cells: dict[str, list[Row]] = {}
    for row in (row for paper in papers for row in paper.rows):
        if row.recipe and row.value is not None:
            cells.setdefault(row.recipe, []).append(row)
    beside = [_beside(row, cells.get(row["recipe"], []), statistic) for _, row in table.iterrows()]
    columns = ["published", "published_knn", "within_spread"]
    return table.assign(**{name: [pair[i] for pair in beside] for i, name in enumerate(columns)})


def _beside(row: pd.Series, cells: list[Row], statistic: str) -> tuple[str, str, str]:
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
    metric = str(cell.metric)
    return WORDS.get(metric, metric.replace("_top", " top-").replace("top1", "top-1").replace("top5", "top-5"))


def _within(ours: float, cell: Row) -> str:
    if math.isnan(ours):
        return "not measured"
    if cell.spread is None:
        return f"{ours - cell.value:+.2f}, no spread published"  # type: ignore[operator]
    return "yes" if abs(ours - cell.value) <= cell.spread else "no"  # type: ignore[operator]
