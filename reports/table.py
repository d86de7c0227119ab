"""Tables: rows with the columns that show them, for every medium (page, terminal, Markdown, the docs and CSV)."""

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
        """Return each machine with a table of its rows alone, since rows of different machines are not comparable."""
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
        would take for a formula gets an apostrophe in front.
        """
        written = fields(self.columns)
        cells = {name: [_csv_cell(written[name], value) for value in self.frame[name]] for name in self.frame.columns}
        return pd.DataFrame(cells, columns=self.frame.columns).to_csv(index=False, lineterminator="\n")

    def parquet(self) -> bytes:
        """Return the table as Parquet, with every number as it was computed, not rounded as in the CSV."""
        buffer = BytesIO()
        self.frame.to_parquet(buffer, index=False)
        return buffer.getvalue()


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Iterable[Column]) -> pd.DataFrame:
    """Return rows as a DataFrame with the columns' fields. A value that a row lacks is missing (NaN) there, and a value
    that belongs to no column is left out.
    """
    return pd.DataFrame(list(rows), columns=list(fields(columns)))


def _csv_cell(column: Column, value: Any) -> str:
    """Return a CSV cell. Only texts can be taken for formulas; a negative number must not get an apostrophe."""
    return csv_cell(column.csv(value)) if isinstance(value, str) else column.csv(value)
