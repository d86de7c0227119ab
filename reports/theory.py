"""The results of `twoview suite theory`: one row per claim, with its measurement, verdict and figure."""

from collections.abc import Iterator, Sequence
from datetime import UTC

import pandas as pd

from twoview.bench.evidence import Claimed, Theory
from twoview.reports.cells import Column
from twoview.reports.figures import Plot
from twoview.reports.table import frame_of
from twoview.reports.theory_figures import plots


class Figures(Column):
    """The plots of a claim, which only the page shows. The column has no field of its own in a row."""

    @property
    def fields(self) -> tuple[str, ...]:
        return ()


# The columns of the table; the docs' page of results shows claim, verdict and source.
COLUMNS = [
    Column("claim", "claim", page=1, terminal=1, results=1),
    Column("measured", "measured", page=3, terminal=3),
    Column("expected", "expected", page=4, terminal=4),
    Column("verdict", "verdict", page=2, terminal=2, results=2),
    Column("source", "source", page=6, terminal=5, results=3),
    Column("machine", "machine"),
    Column("date", "date"),
    Column("name", "record"),
    Figures("figure", "figure", page=5),
]


def theory_table(records: Sequence[Theory]) -> pd.DataFrame:
    """Return one row per claim, in the order of measurement, from the latest record of each machine and experiment."""
    rows = [
        {
            "claim": claim.name,
            **{part: getattr(claim, part) for part in ("measured", "expected", "verdict", "source")},
            "machine": record.environment.machine,
            "date": record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "name": record.name,
        }
        for record, claim in _latest(records)
    ]
    return frame_of(rows, COLUMNS)


def theory_plots(records: Sequence[Theory]) -> list[list[Plot]]:
    """Return the plots of each row of `theory_table`: an empty list for a claim without a figure."""
    return [plots(claim, f"{record.environment.machine} {record.name}") for record, claim in _latest(records)]


def _latest(records: Sequence[Theory]) -> Iterator[tuple[Theory, Claimed]]:
    """Yield the claims of the latest record of each machine and experiment, each with its record."""
    latest = {(record.environment.machine, record.name): record for record in sorted(records, key=lambda r: r.created)}
    for record in sorted(latest.values(), key=lambda r: (r.environment.machine, r.created)):
        yield from ((record, claim) for claim in record.claims)
