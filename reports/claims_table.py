"""What papers claim without a number, a sign or an ordering -> rows: our measurement of it, and the verdict."""

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

NOT_MEASURED = "not measured"
WORDS = {AGREES: "holds", CONTRADICTS: "fails", NOT_RESOLVED: "not resolved"}
FULL, REDUCED = "the paper's", "reduced"
REDUCED_WORDS = " at reduced scale"
COLUMNS = [
    Column("source", "source", page=1, terminal=1),
    Column("verdict", "verdict", page=2, terminal=2),
    Column("claim", "claim", page=3, terminal=3),
    Column("scale", "scale", page=4, terminal=10),
    Bounded("effect", "measured", 2, page=5, terminal=4),
    Column("resolvable", "least effect that 80 % of repetitions resolve", 2, page=6, terminal=11),
    Column("p", "p", 2, small=True, page=7, terminal=6),
    Column("of", "of", 0, page=8, terminal=5),
    Column("published_effect", "published", 2, page=9, terminal=7),
    Column("statistic", "test", page=10),
    Column("dataset", "dataset", page=11, terminal=8),
    Column("provenance", "provenance", page=12),
    Column("note", "note", page=14),
    Column("machine", "machine", page=13, terminal=9),
]


def claims_table(papers: Iterable[Paper], runs: Sequence[Run], theories: Sequence[Theory]) -> pd.DataFrame:
    """One row a claim, scale and machine that measured it, and one without numbers for each claim that none did.

    scale: by the paper's own recipes, or by the smaller ones that stand for them, as they are or at another scale of
    the claims' suite. effect: the contrast in points of
    top-1, the rank correlation, or the mean of what a claim of the theory measures, with its 95 % interval; of: how
    many seeds or runs it comes of. verdict: "holds" where the whole interval lies on the claim's side of 0, "fails" on
    the other, "not resolved" where it holds 0 or comes of fewer than three, each "at reduced scale" where it is of
    that; "not measured" without runs of the recipes that the claim names with nothing overridden but what the recipe
    itself searches.
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
    """How many claims have which verdict, by the paper's own recipes where both scales have one."""
    own_first = table.sort_values("scale", key=lambda scale: scale != FULL, kind="stable")
    verdicts = own_first.drop_duplicates(["source", "claim"])["verdict"]
    at_full_scale = int((~verdicts.str.endswith(REDUCED_WORDS) & (verdicts != NOT_MEASURED)).sum())
    counts = verdicts.str.removesuffix(REDUCED_WORDS).value_counts()
    held, failed, open_ = (counts.get(word, 0) for word in WORDS.values())
    return (
        f"Claims that hold: {held} of {len(verdicts)}; that fail: {failed}; not resolved: {open_}; not measured: "
        f"{counts.get(NOT_MEASURED, 0)}. Of these verdicts {at_full_scale} are by the papers' own recipes, the others "
        "at reduced scale."
    )


def _size(run: Run) -> str | None:
    """Empty where nothing differs from the run's recipe but what the recipe itself searches; else the name of the scale
    of the claims' suite at which it was trained; None where it is of none.
    """
    search = run.recipe.get("search")
    ranges = search.get("ranges") if isinstance(search, dict) else None
    searched = set(ranges) if isinstance(ranges, dict) else set()
    if not set(overridden(run).split(", ")) - searched - {""}:
        return ""
    try:
        return scale_of(parse(run.recipe, run.name), HARMLESS) or None
    except ValueError:  # of another version
        return None


def _said(claim: Claim, one: Check, scale: str) -> dict[str, Any]:
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
    """The measured columns; nothing where the machine's runs and theories do not tell."""
    found = check(
        one,
        [run for run in runs if run.environment.machine == machine],
        [record for record in theories if record.environment.machine == machine],
    )
    if found is None:
        return {}
    ends = (-found.high, -found.low) if one.correlation else (found.low, found.high)
    word = NOT_RESOLVED if found.p is None else verdict(*ends, found.of)
    if one.two_sided and word == CONTRADICTS:  # that it is not 0 holds on either side
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
