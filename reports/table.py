"""Tables: rows and the columns that show them, for every medium (page, terminal, Markdown, docs and CSV)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Literal, Self

import pandas as pd

from twoview.bench.runtime.escapes import csv_cell
from twoview.reports.cells import Column, fields

Medium = Literal["page", "terminal", "markdown", "results", "results_more"]


@dataclass(frozen=True)
class Table:
    """A table with a title, its columns and its rows.

    frame: the rows; it has a DataFrame column for each field of `columns`.
    """

    title: str
    columns: Sequence[Column]
    frame: pd.DataFrame

    @property
    def rows(self) -> list[pd.Series]:
        """The rows of the frame, from top to bottom."""
        return [row for _, row in self.frame.iterrows()]

    def where(self, kept: Any) -> Self:
        """Return the table with the rows for which `kept`, a Boolean Series or mask, is true."""
        return replace(self, frame=self.frame.loc[kept])

    def by_machine(self) -> list[tuple[str, Self]]:
        """Return a table per machine, since rows of different machines are not comparable."""
        return [(str(machine), replace(self, frame=rows)) for machine, rows in self.frame.groupby("machine")]

    def of_machine(self, machine: str) -> Self:
        """Return the table with the rows of one machine."""
        return self.where(self.frame["machine"] == machine)

    def shown(self, medium: Medium) -> list[Column]:
        """Return the columns that a medium shows, from left to right."""
        places = [(place, column) for column in self.columns if (place := getattr(column, medium)) is not None]
        return [column for _, column in sorted(places, key=lambda pair: pair[0])]

    def csv(self) -> str:
        """Return the table as CSV with one header row, every number with its column's decimals.

        Percentages have 2 decimals; shares are written as fractions of 1 with 4 decimals. A text that a spreadsheet
        would interpret as a formula is prefixed with an apostrophe.
        """
        written = fields(self.columns)
        cells = {name: [_csv_cell(written[name], value) for value in self.frame[name]] for name in self.frame.columns}
        return pd.DataFrame(cells, columns=self.frame.columns).to_csv(index=False, lineterminator="\n")

    def parquet(self) -> bytes:
        """Return the table as Parquet. Unlike the CSV, numbers are not rounded."""
        buffer = BytesIO()
        self.frame.to_parquet(buffer, index=False)
        return buffer.getvalue()


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Iterable[Column]) -> pd.DataFrame:
    """Return rows as a DataFrame with the columns' fields. Values that a row lacks are NaN, and values that belong to
    no column are dropped.
    """
    return pd.DataFrame(list(rows), columns=list(fields(columns)))


def _csv_cell(column: Column, value: Any) -> str:
    """Return a CSV cell. Only text gets an apostrophe; a negative number must not get one."""
    return csv_cell(column.csv(value)) if isinstance(value, str) else column.csv(value)
