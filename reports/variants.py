"""Recipes compared with the recipe that they are based on: the changed settings, and their effect on accuracy."""

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd

from twoview.bench.config.recipe import Recipe, compared, flat, parse
from twoview.bench.evidence import Run
from twoview.reports import significance
from twoview.reports.cells import Bounded, Column, Spread
from twoview.reports.leaderboard import Shown, overridden
from twoview.reports.significance import AGREES, CONTRADICTS, PARTS, PROBES, Seeds, differences, interval
from twoview.reports.table import frame_of

WORDS = {AGREES: "better", CONTRADICTS: "worse"}  # verdict of a test -> the word for it in this table
NOT_CHANGES = ("name", "epochs", "seed")  # settings that are not listed as changes: other columns show them

# The columns of the table; differences and verdicts are against the base recipe.
COLUMNS = [
    Column("recipe", "recipe", page=1, terminal=1),
    Column("changes", "changed settings", page=2, terminal=12),
    Column("dataset", "dataset", page=3, terminal=11),
    Column("seeds", "seeds", 0, page=10, terminal=6),
    Column("epochs", "epochs", 0, page=11, terminal=7),
    Column("training_s", "training time (s)", 0, page=12, terminal=5),
    Column("views_per_s", "views/s", 1, page=13, terminal=13),
    Spread("knn_top1", "kNN top-1 (%)", 2, page=4, terminal=4),
    Spread("linear_top1", "linear top-1 (%)", 2, page=7, terminal=8),
    Bounded("knn_difference", "kNN difference (points)", 2, page=5, terminal=2),
    Column("knn_verdict", "kNN verdict", page=6, terminal=3),
    Bounded("linear_difference", "linear difference (points)", 2, page=8, terminal=9),
    Column("linear_verdict", "linear verdict", page=9, terminal=10),
    Column("base", "base"),
    Column("machine", "machine"),
]


def variants_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per recipe whose base was trained on the same dataset and machine, after a row for the base.

    Runs whose settings differ from their recipe's file are skipped.
    changes: the settings that differ from the base's, without the number of epochs.
    training_s, views_per_s: time and rate of a whole training run, for the fastest seed, since other work on the
    machine can only slow a run down.
    Accuracies: mean and sample standard deviation over seeds, in percent.
    difference: accuracy minus the base's accuracy, in points: the mean over seeds, with the two runs of each seed
    paired; `low` and `high` are the bounds of Student's 95 % interval of that mean.
    verdict: "better" if the interval lies above 0, "worse" if it lies below, and "not resolved" if it contains 0 or
    comes from fewer than three seeds.
    """
    trained: dict[tuple[str, str], dict[str, Seeds]] = {}
    for run in sorted(runs, key=lambda run: (run.created, run.name)):
        if run.subject == "trained" and overridden(run) in ("", "not recorded"):
            shown = Shown.model_validate(run.recipe)
            place = trained.setdefault((shown.dataset, run.environment.machine), {})
            place.setdefault(shown.name, {})[run.seed] = run
    rows = [
        {"dataset": dataset, "machine": machine, "base": base} | row
        for (dataset, machine), recipes in sorted(trained.items())
        for base in sorted({_base(seeds) for seeds in recipes.values()} & recipes.keys())
        for row in _family(recipes[base], [seeds for seeds in recipes.values() if _base(seeds) == base])
    ]
    return frame_of(rows, COLUMNS)


def _base(seeds: Seeds) -> str:
    """Return the name of the recipe that the runs' recipe is based on; empty if there is none."""
    return str(_latest(seeds).recipe.get("base", ""))


def _family(base: Seeds, variants: Iterable[Seeds]) -> list[dict[str, Any]]:
    """Return the row of the base, then the rows of its variants, the most accurate first."""
    rows = [_row(variant, base) for variant in variants]
    return [_row(base, {}), *sorted(rows, key=lambda row: (-row["knn_top1_mean"], row["recipe"]))]


def _row(seeds: Seeds, base: Seeds) -> dict[str, Any]:
    """Return the row of a recipe. base: the runs to compare it with; empty for the row of the base itself."""
    latest = _latest(seeds)
    shown = Shown.model_validate(latest.recipe)
    trainings = [run.training for run in seeds.values() if run.training]
    row: dict[str, Any] = {
        "recipe": shown.name,
        "changes": _changes(latest, _latest(base)) if base else "",
        "seeds": len(seeds),
        "epochs": shown.epochs,
        "training_s": min((one.seconds for one in trainings), default=np.nan),
        "views_per_s": max((one.views_per_s for one in trainings), default=np.nan),
    }
    for probe in PROBES:
        accuracies = [getattr(run.accuracy, f"{probe}_top1") for run in seeds.values()]
        row[f"{probe}_top1_mean"] = fmean(accuracies)
        row[f"{probe}_top1_sd"] = stdev(accuracies) if len(accuracies) > 1 else np.nan
        gains = list(differences(seeds, base, probe).values())
        mean, low, high = interval(gains)
        verdict = significance.verdict(low, high, len(gains)) if gains else ""
        row |= {
            f"{probe}_{part}": value
            for part, value in zip(PARTS, (mean, low, high, WORDS.get(verdict, verdict)), strict=True)
        }
    return row


def _latest(seeds: Seeds) -> Run:
    """Return the run that was made last."""
    return max(seeds.values(), key=lambda run: run.created)


def _changes(one: Run, base: Run) -> str:
    """Return the settings that differ, in the form `key = value`. Keys with their default value in both are omitted."""
    try:
        mine, theirs = (parse(run.recipe, run.name) for run in (one, base))
    except ValueError:
        return "a recipe that this version cannot read"
    values, others = compared(mine), compared(theirs)
    given = _given(mine) | _given(theirs) | {"method.name", "views"}  # each method's name is its own default
    changed = [key for key in values if key in given and key not in NOT_CHANGES and values[key] != others.get(key)]
    return ", ".join(f"{key} = {values[key]}" for key in changed)


def _given(recipe: Recipe[Any]) -> set[str]:
    """Return the keys whose values are not the defaults."""
    return set(flat(recipe.model_dump(mode="json", exclude_defaults=True)))
