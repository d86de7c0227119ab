"""Recipes beside the recipe that they are based on -> rows: what each changes, and what that does to the accuracy."""

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd

from twoview.bench.config.recipe import Recipe, flat, parse
from twoview.bench.evidence import Run
from twoview.reports import significance
from twoview.reports.cells import Bounded, Column, Spread
from twoview.reports.leaderboard import Shown, overridden
from twoview.reports.significance import AGREES, CONTRADICTS, PARTS, PROBES, Seeds, differences, interval
from twoview.reports.table import frame_of

WORDS = {AGREES: "better", CONTRADICTS: "worse"}
NOT_CHANGES = ("name", "epochs", "seed")  # of an experiment: the row has them anyway

COLUMNS = [
    Column("recipe", "recipe", page=1, terminal=1),
    Column("changes", "changes", page=2, terminal=12),
    Column("dataset", "dataset", page=3, terminal=11),
    Column("seeds", "seeds", 0, page=10, terminal=6),
    Column("epochs", "epochs", 0, page=11, terminal=7),
    Column("training_s", "training s", 0, page=12, terminal=5),
    Column("views_per_s", "views/s", 0, page=13, terminal=13),
    Spread("knn_top1", "kNN %", 2, page=4, terminal=4),
    Spread("linear_top1", "linear %", 2, page=7, terminal=8),
    Bounded("knn_difference", "kNN points", 2, page=5, terminal=2),
    Column("knn_verdict", "kNN verdict", page=6, terminal=3),
    Bounded("linear_difference", "linear points", 2, page=8, terminal=9),
    Column("linear_verdict", "linear verdict", page=9, terminal=10),
    Column("base", "base"),
    Column("machine", "machine"),
]


def variants_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a recipe whose base was trained on the same dataset and machine too, behind a row of the base itself.

    `changes`: the settings that are not the base's, without the epochs. `training_s`: seconds of a whole training, and
    `views_per_s`: its rate, of the fastest seed, since other work on the machine only slows it down. Accuracies: mean
    over seeds and sample standard deviation, in percent. `difference`: the mean over seeds, each seed's two runs
    paired, of the accuracy less the base's, in points; `low` and `high` bound Student's 95 % interval of that mean.
    `verdict`: the interval lies above 0 ("better"), below ("worse"), or holds it or comes of fewer than three seeds
    ("not resolved"). Runs whose settings are not those of their recipe's file are left out.
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
    """The name of the base; empty where there is none."""
    return str(_latest(seeds).recipe.get("base", ""))


def _family(base: Seeds, variants: Iterable[Seeds]) -> list[dict[str, Any]]:
    """The base's row, then those of its variants, the most accurate first."""
    rows = [_row(variant, base) for variant in variants]
    return [_row(base, {}), *sorted(rows, key=lambda row: (-row["knn_top1_mean"], row["recipe"]))]


def _row(seeds: Seeds, base: Seeds) -> dict[str, Any]:
    """base: of which the differences are; empty: none are wanted."""
    latest = _latest(seeds)
    shown = Shown.model_validate(latest.recipe)
    trainings = [run.training for run in seeds.values() if run.training]
    row: dict[str, Any] = {
        "recipe": shown.name,
        "changes": _changes(latest, _latest(base)) if base else "",
        "seeds": len(seeds),
        "epochs": shown.epochs,
        "training_s": min((sum(one.epoch_seconds) for one in trainings), default=np.nan),
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
    return max(seeds.values(), key=lambda run: run.created)


def _changes(one: Run, base: Run) -> str:
    """The settings that differ, as a recipe has them. A key that is not told has its default in both."""
    try:
        mine, theirs = (parse(run.recipe, run.name) for run in (one, base))
    except ValueError:
        return "a recipe that this version cannot read"
    values, others = flat(mine.settings()), flat(theirs.settings())
    given = _given(mine) | _given(theirs) | {"method.name"}  # the name of its own that each method has by default
    changed = [key for key in values if key in given and key not in NOT_CHANGES and values[key] != others.get(key)]
    return ", ".join(f"{key} = {values[key]}" for key in changed)


def _given(recipe: Recipe[Any]) -> set[str]:
    """The keys whose values are no defaults."""
    return set(flat(recipe.model_dump(mode="json", exclude_defaults=True)))
