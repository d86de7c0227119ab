"""From records to the contents of a report: every table, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from twoview.bench.evidence import (
    AnyRecord,
    ConvertRates,
    DeviceFigures,
    LoaderRates,
    ProbeCost,
    Probing,
    Run,
    Theory,
)
from twoview.reports import (
    accuracy_per_second,
    budget,
    claims_table,
    gpu_table,
    imbalance,
    leaderboard,
    loader_table,
    over_seeds,
    papers,
    probe_table,
    probed_table,
    theory,
    variants,
)
from twoview.reports.cells import Column
from twoview.reports.published import beside_papers
from twoview.reports.reconstructions import Image
from twoview.reports.table import Table

Kind = TypeVar("Kind", bound=AnyRecord)


@dataclass(frozen=True)
class Report:
    """A report on a folder of evidence records.

    records: the records that are shown. tables: "summary", "accuracy-per-second", "budget", "claims" and the tables of
    `RECORD_TABLES`, by name. images: reconstructions by masked-image methods. complaints: one sentence for each file or
    record that was skipped. files: the path of each written file, by name; empty until `write_report` has written them.
    """

    records: Sequence[AnyRecord]
    tables: dict[str, Table]
    images: Sequence[Image]
    complaints: tuple[str, ...]
    files: dict[str, Path] = field(default_factory=dict)


class RecordTable(NamedTuple):
    """A table that needs only records of certain kinds.

    kinds: the classes of those records. make: returns the rows, made from such records, as a DataFrame with the fields
    of `columns`.
    """

    title: str
    columns: list[Column]
    kinds: tuple[type[AnyRecord], ...]
    make: Callable[[Sequence[Any]], pd.DataFrame]

    def table(self, records: Sequence[AnyRecord]) -> Table:
        """Return the table, made from the records of its kinds."""
        frame = self.make([record for record in records if isinstance(record, self.kinds)])
        return Table(self.title, self.columns, frame)


# Name of a table and of its CSV file -> how the table is made.
RECORD_TABLES = {
    "leaderboard": RecordTable("Runs", leaderboard.COLUMNS, (Run,), leaderboard.leaderboard),
    "imbalance": RecordTable("Few classes per batch", imbalance.COLUMNS, (Run,), imbalance.imbalance_table),
    "variants": RecordTable("Recipes compared with their base", variants.COLUMNS, (Run,), variants.variants_table),
    "probes": RecordTable("Probes", probed_table.COLUMNS, (Probing,), probed_table.probed_table),
    "probe-costs": RecordTable("Cost of the probes", probe_table.COLUMNS, (ProbeCost,), probe_table.probe_table),
    "loader": RecordTable("Loader", loader_table.COLUMNS, (LoaderRates,), loader_table.loader_table),
    "required": RecordTable(
        "Requirements", loader_table.REQUIRED_COLUMNS, (LoaderRates, ConvertRates), loader_table.required_table
    ),
    "gpu": RecordTable("Steps", gpu_table.COLUMNS, (DeviceFigures,), gpu_table.gpu_table),
    "theory": RecordTable("Theory", theory.COLUMNS, (Theory,), theory.theory_table),
}


def select(kind: type[Kind], records: Sequence[AnyRecord]) -> list[Kind]:
    """Return the records of one kind, in their order."""
    return [record for record in records if isinstance(record, kind)]


def report_of(records: Sequence[AnyRecord], images: Sequence[Image], complaints: Sequence[str]) -> Report:
    """Return the report with all tables of the records.

    complaints: sentences about files and records that have been skipped already; the report adds its own.
    """
    published, runs = papers.load(), select(Run, records)
    tables = {name: one.table(records) for name, one in RECORD_TABLES.items()}
    board = beside_papers(tables["leaderboard"].frame, published)
    means = beside_papers(over_seeds.summary(board), published, "_mean")
    timed = accuracy_per_second.accuracy_per_second(board)
    claims = claims_table.claims_table(published, runs, select(Theory, records))
    budgets, of_no_budget = budget.budget_table(papers.budgets(published), records)
    tables |= {
        "leaderboard": replace(tables["leaderboard"], frame=board),
        "summary": Table("Over seeds", over_seeds.COLUMNS, means),
        "accuracy-per-second": Table("Accuracy per second", accuracy_per_second.COLUMNS, timed),
        "claims": Table("What the papers claim", claims_table.COLUMNS, claims),
        "budget": Table("Budgets", budget.COLUMNS, budgets),
    }
    return Report(records, tables, images, (*complaints, *of_no_budget))
