"""How a value is written: a column's heading and digits, the same on the terminal, on the page and in CSV."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twoview.bench.runtime.escapes import one_line

ABSENT = "\u2013"  # a dash


@dataclass(frozen=True)
class Column:
    """A column of a table, said once for every medium.

    decimals: of a number; None for a word. share: a fraction of 1, shown as a percentage. small: of that many digits
    instead, wherever they begin, since a p of 0.000 says less than one of 3e-05.

    page, terminal, markdown, readme, readme_more: its place from the left there, or None where it is not shown; equal
    places go by the order of the list. readme_more is README's second table of the same rows. A narrow terminal leaves
    out the last places. CSV has every column, in the order of the list.
    """

    name: str
    heading: str
    decimals: int | None = None
    share: bool = False
    small: bool = False
    page: int | None = None
    terminal: int | None = None
    markdown: int | None = None
    readme: int | None = None
    readme_more: int | None = None

    @property
    def numeric(self) -> bool:
        return self.decimals is not None

    @property
    def fields(self) -> tuple[str, ...]:
        """What it takes of a row. It is sorted by the first."""
        return (self.name,)

    def text(self, row: pd.Series) -> str:
        """The cell of a row, for a reader."""
        return self.written(row[self.name])

    def key(self, row: pd.Series) -> str:
        """What the cell is sorted by."""
        return self.csv(row[self.fields[0]])

    def written(self, value: Any) -> str:
        """For a reader: thousands apart, a dash where there is no value."""
        if pd.isna(value) or value == "":
            return ABSENT
        if self.decimals is None:
            return one_line(str(value))
        if value == math.inf:
            return "not reached"
        if self.small:
            return f"{value:.{self.decimals}g}"
        if self.share:
            return f"{100 * value:.{self.decimals}f} %"
        return f"{value:,.{self.decimals}f}"

    def csv(self, value: Any) -> str:
        """For a program: the fraction itself for a share, nothing where there is no value."""
        if pd.isna(value):
            return ""
        if self.decimals is None:
            return str(value)
        if value == math.inf:
            return "Infinity"  # as pandas and a browser read it
        if self.small:
            return f"{value:.{self.decimals}g}"
        return f"{value:.{self.decimals + 2 if self.share else self.decimals}f}"


class Spread(Column):
    """Mean of an accuracy over seeds, with the sample standard deviation where there is one: `79.10 ± 0.41`."""

    @property
    def fields(self) -> tuple[str, ...]:
        return f"{self.name}_mean", f"{self.name}_sd"

    def text(self, row: pd.Series) -> str:
        mean, deviation = row[f"{self.name}_mean"], row[f"{self.name}_sd"]
        if pd.isna(mean):
            return ABSENT
        return f"{mean:.2f}" if pd.isna(deviation) else f"{mean:.2f} ± {deviation:.2f}"


class Bounded(Column):
    """A difference, or what goes by another name, with its interval where there is one: `+3.50 (-2.85 to +9.85)`."""

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
    """An interval: `38.97 to 44.25`."""

    @property
    def fields(self) -> tuple[str, ...]:
        return f"{self.name}_low", f"{self.name}_high"

    def text(self, row: pd.Series) -> str:
        low, high = (row[field] for field in self.fields)
        return ABSENT if pd.isna(low) else f"{low:.2f} to {high:.2f}"


def fields(columns: Iterable[Column]) -> dict[str, Column]:
    """The names in a frame of these columns, in order, and which column writes each."""
    found: dict[str, Column] = {}
    for column in columns:
        for name in column.fields:
            found.setdefault(name, column)
    return found
