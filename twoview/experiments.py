"""What a script calls to train a recipe and judge its encoder, as the commands `train` and `probe` do.

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
    """A recipe by its name, as in `twoview list recipes`, or from a TOML file.

    settings: values that replace the recipe's, by dotted key, as `{"epochs": 2, "optim.lr": 0.1}`.
    ValueError naming the key at fault.
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
    """Trains a recipe; returns its checkpoint, OUT/checkpoints/NAME-seedSEED.pt, which `probe` judges.

    recipe: a name, a TOML file, or what `load_recipe` gave. settings: as for `load_recipe`.
    betons: folder of the beton files, OUT/betons by default. data_root: folder of your datasets, `TWOVIEW_DATA` by
    default. resume: go on from the checkpoint that is in `out`; without it, FileExistsError where there is one.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    chosen = recipes.with_values(loaded, settings or {})
    return training.train(chosen, place_of(Path(out), _path(betons), _path(data_root)), resume, device)


def probe(checkpoint: AnyPath, *, betons: AnyPath | None = None, data_root: AnyPath | None = None) -> evidence.Run:
    """Judges a trained encoder by kNN and a linear probe, as its recipe says, on its own dataset.

    Of the record, `accuracy.probes["knn"].top1` and `accuracy.probes["linear"].top1` are in percent.
    checkpoint: a file that `train` wrote. betons, data_root: as for `train`. ValueError if training is not finished.
    """
    path = Path(checkpoint)
    return judging.judge(path, place_of(path.parent.parent, _path(betons), _path(data_root)))


def _path(given: AnyPath | None) -> Path | None:
    return None if given is None else Path(given)
