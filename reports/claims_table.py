"""The papers' claims about signs and orderings of accuracies, each with our measurement and a verdict."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from twoview.bench.config.claims_scale import scale_of
from twoview.bench.config.recipe import parse
from twoview.bench.evidence import Run, Theory
from twoview.reports.cells import Bounded, Column
from twoview.reports.leaderboard import HARMLESS, overridden
from twoview.reports.papers import Check, Claim, Paper, check
from twoview.reports.significance import AGREES, CONTRADICTS, NOT_RESOLVED, verdict
from twoview.reports.table import frame_of

NOT_MEASURED = "not measured"  # the verdict of a claim without runs
WORDS = {AGREES: "holds", CONTRADICTS: "fails", NOT_RESOLVED: "not resolved"}
FULL, REDUCED = "the paper's", "reduced"  # scale: the paper's recipes, or smaller versions of them
REDUCED_WORDS = " at reduced scale"
# The columns of the table. `resolvable` is the smallest effect that a test of this power would find.
COLUMNS = [
    Column("source", "source", page=1, terminal=1, results=1),
    Column("verdict", "verdict", page=2, terminal=2, results=7),
    Column("claim", "claim", page=3, terminal=3, results=2),
    Column("scale", "scale", page=4, terminal=10),
    Bounded("effect", "effect: points, or Spearman's rho (95 % CI)", 2, page=5, terminal=4, results=4),
    Column("resolvable", "smallest effect detectable with 80 % power", 2, page=6, terminal=11, results=5),
    Column("p", "p", 2, small=True, page=7, terminal=6),
    Column("of", "seeds or runs", 0, page=8, terminal=5, results=6),
    Column("published_effect", "published effect", 2, page=9, terminal=7),
    Column("statistic", "contrast and test", page=10, results=3),
    Column("dataset", "dataset", page=11, terminal=8),
    Column("provenance", "provenance", page=12),
    Column("note", "note", page=14),
    Column("machine", "machine", page=13, terminal=9),
]


def claims_table(papers: Iterable[Paper], runs: Sequence[Run], theories: Sequence[Theory]) -> pd.DataFrame:
    """Return one row for each claim, scale and machine that measured it, and one without numbers for each other claim.

    scale: whether the claim was measured with the paper's own recipes or with smaller versions of them, and the scale
    of `twoview suite claims` if it is not the default.
    effect: the contrast in points of top-1, the rank correlation, or the mean effect of a theory claim, with its 95 %
    interval. of: number of seeds or runs.
    verdict: "holds" if the whole interval lies on the claim's side of 0, "fails" if it lies on the other side, and "not
    resolved" if it contains 0 or comes from fewer than three seeds or runs; "at reduced scale" is added for smaller
    recipes. It is "not measured" if there are no runs of the claim's recipes. A run counts only if it changes no
    settings except those that its recipe searches over.
    """
    theirs: dict[str, list[Run]] = {"": []}
    for run in runs:
        if (size := _size(run)) is not None:
            theirs.setdefault(size, []).append(run)
    machines = sorted({record.environment.machine for record in (*runs, *theories)})
    sizes = [f"{REDUCED}, {size}" if size else REDUCED for size in theirs]
    rows: list[dict[str, Any]] = []
    for claim in (claim for paper in papers for claim in paper.claims):
        tests: list[tuple[Check, str, list[Run], Sequence[Theory]]] = [(claim, FULL, theirs[""], theories)]
        tests += [
            (one, size, trained, theories if size == REDUCED else [])
            for one in claim.reduced
            for size, trained in zip(sizes, theirs.values(), strict=True)
        ]
        measured = [
            _said(claim, one, scale) | row
            for one, scale, trained, theory in tests
            for machine in machines
            if (row := _measured(one, scale, machine, trained, theory))
        ]
        rows += measured or [_said(claim, claim, "") | {"verdict": NOT_MEASURED}]
    rows.sort(key=lambda row: row["verdict"] == NOT_MEASURED)
    return frame_of(rows, COLUMNS)


def tally(table: pd.DataFrame) -> str:
    """Return a sentence with the number of claims of each verdict.

    For a claim with verdicts at both scales, the verdict at the paper's scale counts.
    """
    own_first = table.sort_values("scale", key=lambda scale: scale != FULL, kind="stable")
    verdicts = own_first.drop_duplicates(["source", "claim"])["verdict"]
    at_full_scale = int((~verdicts.str.endswith(REDUCED_WORDS) & (verdicts != NOT_MEASURED)).sum())
    counts = verdicts.str.removesuffix(REDUCED_WORDS).value_counts()
    held, failed, open_ = (counts.get(word, 0) for word in WORDS.values())
    return (
        f"Claims that hold: {held} of {len(verdicts)}; that fail: {failed}; not resolved: {open_}; not measured: "
        f"{counts.get(NOT_MEASURED, 0)}. Of these verdicts {at_full_scale} come from the papers' own recipes, the "
        "others from smaller recipes."
    )


def _size(run: Run) -> str | None:
    """Return the scale at which a run was trained: a name from `twoview suite claims`, empty, or None.

    It is empty if the run changes no settings except those that its recipe searches over, and None if the run fits no
    scale.
    """
    search = run.recipe.get("search")
    ranges = search.get("ranges") if isinstance(search, dict) else None
    searched = set(ranges) if isinstance(ranges, dict) else set()
    if not set(overridden(run).split(", ")) - searched - {""}:
        return ""
    try:
        return scale_of(parse(run.recipe, run.name), HARMLESS) or None
    except ValueError:  # a recipe from another version of twoview
        return None


def _said(claim: Claim, one: Check, scale: str) -> dict[str, Any]:
    """Return the columns that describe the claim and its test."""
    return {
        "source": claim.paper,
        "claim": claim.claim,
        "scale": scale,
        "published_effect": claim.value,
        "statistic": one.statistic,
        "dataset": one.dataset,
        "provenance": claim.provenance,
        "note": one.note,
    }


def _measured(one: Check, scale: str, machine: str, runs: Sequence[Run], theories: Sequence[Theory]) -> dict[str, Any]:
    """Return the measured columns; empty if the machine's runs and theory records do not measure the claim."""
    found = check(
        one,
        [run for run in runs if run.environment.machine == machine],
        [record for record in theories if record.environment.machine == machine],
    )
    if found is None:
        return {}
    # `verdict` expects a positive effect if the claim is true; the claimed correlation is negative.
    ends = (-found.high, -found.low) if one.correlation else (found.low, found.high)
    word = NOT_RESOLVED if found.p is None else verdict(*ends, found.of)
    if one.two_sided and word == CONTRADICTS:  # the claim is that the effect is not 0, on either side
        word = AGREES
    return {
        "verdict": WORDS[word] + ("" if scale == FULL else REDUCED_WORDS),
        "effect": found.size,
        "effect_low": found.low,
        "effect_high": found.high,
        "resolvable": found.resolvable,
        "p": found.p,
        "of": found.of,
        "machine": machine,
    }
