"""The command `search`: a search over a recipe's hyperparameters."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from twoview.bench.config import recipe as recipes
from twoview.bench.config.experiment import place_of
from twoview.bench.config.views import as_toml
from twoview.bench.data import own
from twoview.bench.training import search as searching
from twoview.commands.numbers import at_least
from twoview.commands.output import show
from twoview.reports.search import plot


def run(
    recipe: Positional[str],
    trials: int = 20,
    out: Path | None = None,
    betons: Path | None = None,
    data_root: Path | None = None,
    json: bool = False,
) -> None:
    """Search a recipe's hyperparameters: random trials, ranked by kNN accuracy on held-out training images.

    A second run continues where the first stopped, until TRIALS trials are done. Processes with the same OUT share the
    trials.

    Args:
        recipe: a name from `twoview list recipes`, or a TOML file; it must have a table [search.ranges].
        trials: total number of trials, including earlier calls.
        out: folder of the Optuna study and its plot; out/search/RECIPE by default.
        betons: folder of the beton files; OUT/betons by default.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the result as JSON.
    """
    at_least(1, trials=trials)
    start = recipes.load(recipe)
    folder = out or Path("out/search") / start.name
    place = place_of(folder, betons, data_root)
    start = own.read(start, place.betons)
    study = searching.open_study(start, folder)
    searching.run(start, study, folder, trials, place)
    result = searching.outcome(study)
    result["plot"] = str(plot(result, start.search, folder / "search.svg"))
    lines = [", ".join(f"{count} {state}" for state, count in result["trials"].items() if count)]
    if best := result["best"]:
        words = " ".join(f"--{key} {value}" for key, value in _options(start, best["values"]).items())
        lines.append(f"best: {best['top1']:.2f} % kNN on held-out training images with trial {best['number']}")
        lines.append(f"train it: twoview train {recipe} {words}")
    show(result, json, "\n".join([*lines, result["plot"]]))


def _options(start: recipes.Recipe[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `train` for values by dotted key. All changes of the views are in one option."""
    options = {key: value for key, value in values.items() if not key.startswith("views.")}
    if len(options) < len(values):
        options["views"] = shlex.quote(as_toml(recipes.with_values(start, values).views))
    return options
