"""Columns: the heading, digits and position of a value, defined once for the terminal, the page and CSV."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twoview.bench.runtime.escapes import one_line

ABSENT = "\u2013"  # an en dash, for a cell without a value


@dataclass(frozen=True)
class Column:
    """A column of a table, defined once for every medium.

    name: the field of a row that the column shows. heading: its title.
    decimals: digits after the decimal point; None for a column of text.
    share: whether the value is a fraction of 1, which is shown as a percentage.
    small: whether `decimals` counts significant digits instead, since a p of 0.000 says less than a p of 3e-05.

    page, terminal, markdown, results, results_more: the column's position from the left in that medium, or None if it
    is not shown there; columns with the same position keep the order of the list. results is the docs' page of results,
    and results_more is the second table of the same rows there. A narrow terminal omits the last columns. CSV has every
    column, in the order of the list.
    """

    name: str
    heading: str
    decimals: int | None = None
    share: bool = False
    small: bool = False
    page: int | None = None
    terminal: int | None = None
    markdown: int | None = None
    results: int | None = None
    results_more: int | None = None

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers, which are aligned to the right."""
        return self.decimals is not None

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the row's values that the column shows. The page sorts by the first name's value."""
        return (self.name,)

    def text(self, row: pd.Series) -> str:
        """Return the text of a row's cell for a reader."""
        return self.written(row[self.name])

    def key(self, row: pd.Series) -> str:
        """Return the cell's sort key on the page."""
        return self.csv(row[self.fields[0]])

    def written(self, value: Any) -> str:
        """Return a value for a reader: with commas between thousands, and a dash for a missing value."""
        if pd.isna(value) or value == "":
            return ABSENT
        if self.decimals is None:
            return one_line(str(value))
        if value == math.inf:  # a time to a target that was never reached
            return "not reached"
        if self.small:
            return f"{value:.{self.decimals}g}"
        if self.share:
            return f"{100 * value:.{self.decimals}f} %"
        return f"{value:,.{self.decimals}f}"

    def csv(self, value: Any) -> str:
        """Return a value for a program: a share as a fraction, and an empty text for a missing value."""
        if pd.isna(value):
            return ""
        if self.decimals is None:
            return str(value)
        if value == math.inf:
            return "Infinity"  # pandas and JavaScript both read this word as a number
        if self.small:
            return f"{value:.{self.decimals}g}"
        return f"{value:.{self.decimals + 2 if self.share else self.decimals}f}"


class Spread(Column):
    """The mean of an accuracy over seeds, and its sample standard deviation if there is one: `79.10 ± 0.41`."""

    @property
    def fields(self) -> tuple[str, ...]:
        return f"{self.name}_mean", f"{self.name}_sd"

    def text(self, row: pd.Series) -> str:
        mean, deviation = row[f"{self.name}_mean"], row[f"{self.name}_sd"]
        if pd.isna(mean):
            return ABSENT
        return f"{mean:.2f}" if pd.isna(deviation) else f"{mean:.2f} ± {deviation:.2f}"


class Bounded(Column):
    """A difference or an effect, with its interval if there is one: `+3.50 (-2.85 to +9.85)`.

    The fields of a column `knn_difference` are `knn_difference`, `knn_low` and `knn_high`.
    """

    @property
    def fields(self) -> tuple[str, ...]:
        stem = self.name.removesuffix("_difference")
        return self.name, f"{stem}_low", f"{stem}_high"

    def text(self, row: pd.Series) -> str:
        mean, low, high = (row[field] for field in self.fields)
        if pd.isna(mean):
            return ABSENT
        return f"{mean:+.2f}" if pd.isna(low) else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


class Between(Column):
    """An interval without its center: `38.97 to 44.25`."""

    @property
    def fields(self) -> tuple[str, ...]:
        return f"{self.name}_low", f"{self.name}_high"

    def text(self, row: pd.Series) -> str:
        low, high = (row[field] for field in self.fields)
        return ABSENT if pd.isna(low) else f"{low:.2f} to {high:.2f}"


def fields(columns: Iterable[Column]) -> dict[str, Column]:
    """Return the field names of a DataFrame with these columns, in order, each with the column that formats it."""
    found: dict[str, Column] = {}
    for column in columns:
        for name in column.fields:
            found.setdefault(name, column)
    return found
