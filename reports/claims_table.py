"""What papers claim without a number, a sign or an ordering -> rows: our measurement of it, and the verdict."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from twoview.bench.evidence import Run
from twoview.reports.cells import Bounded, Column
from twoview.reports.leaderboard import overridden
from twoview.reports.papers import Claim, Paper, check
from twoview.reports.significance import AGREES, CONTRADICTS, NOT_RESOLVED, verdict
from twoview.reports.table import frame_of

NOT_MEASURED = "not measured"
COLUMNS = [
    Column("source", "source", page=1, terminal=1),
    Column("verdict", "verdict", page=2, terminal=2),
    Column("claim", "claim", page=3, terminal=3),
    Bounded("effect", "measured", 2, page=4, terminal=4),
    Column("p", "p", 2, small=True, page=5, terminal=6),
    Column("of", "of", 0, page=6, terminal=5),
    Column("published_effect", "published", 2, page=7, terminal=7),
    Column("statistic", "test", page=8),
    Column("dataset", "dataset", page=10, terminal=8),
    Column("provenance", "provenance", page=9),
    Column("note", "note", page=12),
    Column("machine", "machine", page=11, terminal=9),
]


def claims_table(papers: Iterable[Paper], runs: Sequence[Run]) -> pd.DataFrame:
    """One row a claim and machine that measured it, and behind them one without numbers for each that none did.

    effect: the contrast in points of top-1, or the rank correlation, with its 95 % interval; of: how many seeds or runs
    it comes of. verdict: "agrees" where the whole interval lies on the claim's side of 0, "contradicts" on the other,
    "not resolved" where it holds 0 or comes of fewer than three; "not measured" without runs of the claim's own recipes
    with nothing overridden, which alone are the paper's work.
    """
    theirs = [run for run in runs if not overridden(run)]
    machines = {
        machine: [run for run in theirs if run.environment.machine == machine]
        for machine in sorted({run.environment.machine for run in theirs})
    }
    rows: list[dict[str, Any]] = []
    for claim in (claim for paper in papers for claim in paper.claims):
        measured = [_measured(claim, machine, own) for machine, own in machines.items()]
        said: dict[str, Any] = {
            name: getattr(claim, name) for name in ("claim", "statistic", "dataset", "provenance", "note")
        }
        said |= {"source": claim.paper, "published_effect": claim.value, "verdict": NOT_MEASURED}
        rows += [said | row for row in measured if row] or [said]
    rows.sort(key=lambda row: row["verdict"] == NOT_MEASURED)
    return frame_of(rows, COLUMNS)


def tally(table: pd.DataFrame) -> str:
    """One sentence on all claims: how many have which verdict."""
    counts = table["verdict"].value_counts()
    words = ((AGREES, "agree"), (CONTRADICTS, "contradict"), (NOT_RESOLVED, "are not resolved"))
    parts = [f"{counts.get(verdict, 0)} {word}" for verdict, word in words]
    return f"Of {len(table)} claims {', '.join(parts)} and {counts.get(NOT_MEASURED, 0)} are not measured."


def _measured(claim: Claim, machine: str, runs: Sequence[Run]) -> dict[str, Any]:
    """The measured columns; nothing where these runs do not tell."""
    found = check(claim, runs)
    if found is None:
        return {}
    ends = (-found.high, -found.low) if claim.correlation else (found.low, found.high)
    word = NOT_RESOLVED if found.p is None else verdict(*ends, found.of)
    if claim.two_sided and word == CONTRADICTS:  # that it is not 0 holds on either side
        word = AGREES
    return {
        "verdict": word,
        "effect": found.size,
        "effect_low": found.low,
        "effect_high": found.high,
        "p": found.p,
        "of": found.of,
        "machine": machine,
    }
