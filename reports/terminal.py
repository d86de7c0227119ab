"""The tables on a terminal. A narrow terminal gets only the most important columns; the CSV has all columns."""

from collections.abc import Iterator, Sequence

import pandas as pd
import rich.table
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from twoview.bench.runtime.escapes import on_lines, one_line
from twoview.reports.budget import Published
from twoview.reports.cells import Column
from twoview.reports.claims_table import NOT_MEASURED
from twoview.reports.contents import Report
from twoview.reports.imbalance import too_small
from twoview.reports.sentences import headline, stronger_pixels
from twoview.reports.table import Table

# The tables that `show` prints, from top to bottom.
SHOWN = (
    "summary",
    "accuracy-per-second",
    "imbalance",
    "variants",
    "leaderboard",
    "probes",
    "probe-costs",
    "claims",
    "loader",
    "required",
    "gpu",
    "theory",
)


def show(report: Report, console: Console) -> None:
    """Print the headline sentences, the tables machine by machine, and the complaints about skipped files and
    records.
    """
    tables = report.tables
    summary = tables["summary"].frame
    for sentence in [*headline(summary, tables["loader"].frame), *stronger_pixels(summary)]:
        console.print(_text_of(sentence))
    for name in SHOWN:
        for title, table in _parts(name, tables[name]):
            console.print()
            console.print(_fitting(title, table, console))
    if sentence := too_small(tables["imbalance"].frame):
        console.print(_text_of(sentence))
    for complaint in report.complaints:
        console.print(_text_of(f"Skipped: {complaint}"))


def _parts(name: str, table: Table) -> Iterator[tuple[str, Table]]:
    """Yield one titled table per machine, except for the claims: a single table of the few measured claims."""
    if name == "claims":
        measured = table.where(table.frame["verdict"] != NOT_MEASURED)
        if len(measured.frame):
            yield table.title, measured
        return
    for machine, rows in table.by_machine():
        yield f"{table.title} on {machine}", rows


def show_budgets(budgets: Table, console: Console) -> None:
    """Print the published budgets and our measurements, with every value at any width.

    The values of a budget are stacked in two cells, since side by side they would be too wide for any terminal.
    """
    if budgets.frame.empty:
        return
    columns = budgets.shown("terminal")
    spent = [column for column in columns if isinstance(column, Published)]
    measured = [column for column in columns if not isinstance(column, Published)]
    table = rich.table.Table(title=budgets.title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for heading in ("budget", "published", "measured here"):
        table.add_column(heading, overflow="fold", ratio=1 if heading == "measured here" else None)
    for row in budgets.rows:
        title = f"{row['source']}, {row['row']}" + (f"\non {row['hardware']}" if row["hardware"] else "")
        published, note = (
            f"{_listed(row, spent)}\nprovenance: {row['provenance']}",
            f"\n{row['note']}" if row["note"] else "",
        )
        if pd.isna(row["name"]):
            table.add_row(*map(_lines_of, (title, published + note, "not measured")))
        else:
            here = f"{row['measured']} on {row['machine']}\n{_listed(row, measured)}"
            table.add_row(*map(_lines_of, (title, published, here + note)))
    console.print(table)


def _listed(row: pd.Series, columns: Sequence[Column]) -> str:
    """Return a line for each value, after its heading. Missing values are omitted, except published values."""
    shown = [column for column in columns if pd.notna(row[column.name]) or isinstance(column, Published)]
    return "\n".join(f"{column.heading.removeprefix('published ')}: {column.text(row)}" for column in shown)


def _fitting(title: str, table: Table, console: Console) -> rich.table.Table:
    """Return the table with as many leading columns as fit the console, but at least three."""
    unlimited = console.options.update(max_width=10_000)
    columns, rows = table.shown("terminal"), table.rows
    for count in range(len(columns), 2, -1):
        drawn = rich.table.Table(
            title=_text_of(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
        )
        for column in columns[:count]:
            drawn.add_column(Text(column.heading), justify="right" if column.numeric else "left")
        for row in rows:
            drawn.add_row(*(_text_of(column.text(row)) for column in columns[:count]))
        if Measurement.get(console, unlimited, drawn).maximum <= console.width:
            break
    return drawn


def _text_of(text: str) -> Text:
    """Return a text on one line. Rich interprets no markup in it, whatever the record holds."""
    return Text(one_line(text))


def _lines_of(text: str) -> Text:
    """Return a text of several lines, in which Rich interprets no markup."""
    return Text(on_lines(text))
