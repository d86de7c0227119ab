"""What `twoview suite theory` measured -> rows: a claim, its measurement, its verdict and its figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC

import pandas as pd

from twoview.bench.evidence import Claimed, Theory
from twoview.reports.figures import Plot
from twoview.reports.theory_figures import plots

COLUMNS = ["claim", "measured", "expected", "verdict", "source", "machine", "date", "name"]


@dataclass(frozen=True)
class ClaimRow:
    """plots: none for a claim without a figure."""

    claim: Claimed
    machine: str
    plots: list[Plot]


def theory_table(records: Sequence[Theory]) -> pd.DataFrame:
    """One row a claim, in the order of measurement; an experiment that was run again shows its latest record."""
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
    return pd.DataFrame(rows, columns=COLUMNS)


def claim_rows(records: Sequence[Theory]) -> list[ClaimRow]:
    """The rows of `theory_table`, with their figures."""
    return [
        ClaimRow(claim, record.environment.machine, plots(claim, f"{record.environment.machine} {record.name}"))
        for record, claim in _latest(records)
    ]


def _latest(records: Sequence[Theory]) -> Iterator[tuple[Theory, Claimed]]:
    latest = {(record.environment.machine, record.name): record for record in sorted(records, key=lambda r: r.created)}
    for record in sorted(latest.values(), key=lambda r: (r.environment.machine, r.created)):
        yield from ((record, claim) for claim in record.claims)
