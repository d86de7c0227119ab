"""What `twoview suite theory` measured -> rows: a claim, its measurement, its verdict and its figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import cycle, product

import matplotlib
import numpy as np
import pandas as pd

from bench.evidence import Claimed, Theory
from reports.figures import ACCENT, INK, QUIET, SECOND, STYLE, Plot, canvas, svg

COLUMNS = ["claim", "measured", "expected", "verdict", "source", "machine", "date", "name"]
LINES = [(colour, style) for style, colour in product(("-", "--", ":"), (ACCENT, SECOND, INK, QUIET))]
WIDE = 20.0  # an abscissa that grows by more than this factor is drawn on a logarithmic scale
MARKED = 30  # points of a line, up to which each has a mark


@dataclass(frozen=True)
class ClaimRow:
    """plot: None for a claim without a figure."""

    claim: Claimed
    machine: str
    plot: Plot | None


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
    return [ClaimRow(claim, record.environment.machine, _plot(record, claim)) for record, claim in _latest(records)]


def _latest(records: Sequence[Theory]) -> Iterator[tuple[Theory, Claimed]]:
    latest = {(record.environment.machine, record.name): record for record in sorted(records, key=lambda r: r.created)}
    for record in sorted(latest.values(), key=lambda r: (r.environment.machine, r.created)):
        yield from ((record, claim) for claim in record.claims)


def _plot(record: Theory, claim: Claimed) -> Plot | None:
    """Every series over `x`, or over its index."""
    series = {name: values for name, values in claim.figure.items() if name != "x"}
    if not series:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(2.6 + 0.4 * len(series))
        for (name, values), (colour, style) in zip(series.items(), cycle(LINES), strict=False):
            x = np.asarray(claim.figure.get("x", range(len(values))))
            mark = "o" if len(values) <= MARKED else None
            axes.plot(x, values, color=colour, ls=style, lw=1.2, marker=mark, ms=4, label=name)
        if "x" in claim.figure and x.min() > 0 and x.max() > WIDE * x.min():
            axes.set_xscale("log")
        axes.grid(axis="y", color=QUIET, alpha=0.3, lw=0.6)
        figure.legend(loc="outside upper left", handlelength=2.5, fontsize=8)
        return Plot(claim.name, svg(figure, f"{record.environment.machine} {record.name} {claim.name}"))
