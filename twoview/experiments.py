"""Functions for scripts that train a recipe and evaluate its encoder, as the commands `train` and `probe` do.

A recipe holds all settings of an experiment: dataset, views, method, backbone, optimizer and probes.
Errors are ValueError, OSError or ImportError, each with one sentence that names the file, key or value.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from twoview.bench import evidence
from twoview.bench.config import recipe as recipes
from twoview.bench.config.experiment import place_of
from twoview.bench.config.recipe import Recipe
from twoview.bench.evaluation import judging
from twoview.bench.training import train as training

AnyPath = str | PathLike[str]


def load_recipe(name: AnyPath, settings: Mapping[str, Any] | None = None) -> Recipe[Any]:
    """Return a recipe by its name in `twoview list recipes`, or from a TOML file.

    settings: values that replace the recipe's, by dotted key, such as `{"epochs": 2, "optim.lr": 0.1}`.
    Raises ValueError, naming the key, if a setting is invalid.
    """
    return recipes.with_values(recipes.load(str(name)), settings or {})


def train(
    recipe: AnyPath | Recipe[Any],
    out: AnyPath = "out/train",
    *,
    settings: Mapping[str, Any] | None = None,
    betons: AnyPath | None = None,
    data_root: AnyPath | None = None,
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Path:
    """Train a recipe and return the path of its checkpoint, OUT/checkpoints/NAME-seedSEED.pt, for `probe`.

    recipe: a name, a TOML file, or a recipe that `load_recipe` returned.
    out: the folder of the checkpoints and, by default, of the beton files.
    settings: values that replace the recipe's, see `load_recipe`.
    betons: the folder of the `.beton` files (the dataset in FFCV's format); OUT/betons by default.
    data_root: the folder of your datasets; by default the environment variable `TWOVIEW_DATA`.
    resume: continue from the checkpoint in `out`.
    device: where to train; "auto" takes a GPU if there is one.

    Raises FileExistsError if `out` has a checkpoint already and `resume` is not set.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    chosen = recipes.with_values(loaded, settings or {})
    return training.train(chosen, place_of(Path(out), _path(betons), _path(data_root)), resume, device)


def probe(checkpoint: AnyPath, *, betons: AnyPath | None = None, data_root: AnyPath | None = None) -> evidence.Run:
    """Evaluate a trained encoder by kNN and a linear probe, with its recipe's settings, on its own dataset.

    Returns the record of the run: `accuracy.probes["knn"].top1` and `accuracy.probes["linear"].top1` are in percent.
    checkpoint: a file that `train` wrote. betons, data_root: same as for `train`.
    Raises ValueError if the training run is not finished.
    """
    path = Path(checkpoint)
    return judging.judge(path, place_of(path.parent.parent, _path(betons), _path(data_root)))


def _path(given: AnyPath | None) -> Path | None:
    return None if given is None else Path(given)
