"""Rows and the columns that they are shown by, as every medium takes them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Literal, Self

import pandas as pd

from twoview.bench.runtime.escapes import csv_cell
from twoview.reports.cells import Column, fields

Medium = Literal["page", "terminal", "markdown", "readme", "readme_more"]


@dataclass(frozen=True)
class Table:
    """frame: of a column for each of the columns' fields."""

    title: str
    columns: Sequence[Column]
    frame: pd.DataFrame

    @property
    def rows(self) -> list[pd.Series]:
        return [row for _, row in self.frame.iterrows()]

    def where(self, kept: Any) -> Self:
        """The rows for which it is true."""
        return replace(self, frame=self.frame.loc[kept])

    def by_machine(self) -> list[tuple[str, Self]]:
        """The rows of each machine apart, since a table that is read or sorted as one is a ranking."""
        return [(str(machine), replace(self, frame=rows)) for machine, rows in self.frame.groupby("machine")]

    def of_machine(self, machine: str) -> Self:
        return self.where(self.frame["machine"] == machine)

    def shown(self, medium: Medium) -> list[Column]:
        """The columns of a medium, from left to right."""
        places = [(place, column) for column in self.columns if (place := getattr(column, medium)) is not None]
        return [column for _, column in sorted(places, key=lambda pair: pair[0])]

    def csv(self) -> str:
        """With one header row: percentages with 2 decimals, shares as fractions with 4.

        A text that a spreadsheet would take for a formula has an apostrophe in front.
        """
        written = fields(self.columns)
        cells = {name: [_csv_cell(written[name], value) for value in self.frame[name]] for name in self.frame.columns}
        return pd.DataFrame(cells, columns=self.frame.columns).to_csv(index=False, lineterminator="\n")

    def parquet(self) -> bytes:
        """Every number as it was computed, not rounded as in the CSV."""
        buffer = BytesIO()
        self.frame.to_parquet(buffer, index=False)
        return buffer.getvalue()


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Iterable[Column]) -> pd.DataFrame:
    """What a row lacks is an empty cell, and what is of no column is left out."""
    return pd.DataFrame(list(rows), columns=list(fields(columns)))


def _csv_cell(column: Column, value: Any) -> str:
    return csv_cell(column.csv(value)) if isinstance(value, str) else column.csv(value)
