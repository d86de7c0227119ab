"""One experiment: data, views, method, optimiser, probe. A TOML file of `bench/recipes/`, checked by one schema."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from loaders import datasets, presets
from loaders.names import look_up
from methods import registry
from methods.backbones import Backbone
from methods.method import Options
from methods.optim import Optim
from methods.precision import Precision
from methods.settings import Settings

RECIPES = Path(__file__).parent / "recipes"
M = TypeVar("M", bound=Options)


class Probe(Settings):
    """The `[probe]` table: how the frozen encoder is judged."""

    train_images: NonNegativeInt = 0  # from the train split, equally many a class; 0 means all
    test_images: NonNegativeInt = 0  # from the test split, equally many a class; 0 means all
    k: PositiveInt = 200  # neighbours of the weighted kNN
    temperature: PositiveFloat = 0.1  # of the kNN's votes
    weight_decay: PositiveFloat = 1e-3  # of the linear probe


class Recipe(Settings, Generic[M]):
    """One experiment. Each field is a key of the TOML file and an option of `twoview train`."""

    name: str  # of the experiment; by default the file's stem
    source: str  # paper, table and cell, or who chose the values
    dataset: str  # see `twoview list datasets`
    views: str  # a preset of loaders/presets.py
    size: PositiveInt  # side of a view, in pixels
    method: M
    backbone: Backbone = Backbone()
    optim: Optim = Optim()
    probe: Probe = Probe()
    epochs: PositiveInt  # passes over the training images
    batch: PositiveInt  # images a step, whatever the number of views
    train_images: NonNegativeInt = 0  # to pretrain on, equally many a class; 0 means all
    precision: Precision | Literal["auto"] = "auto"  # of autocast; auto measures which is the fastest here
    loader_threads: NonNegativeInt = 0  # 0: one beside a model on the CPU, every core beside a GPU
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of weights, order and augmentations


def all_files() -> list[Path]:
    """The recipe files of the package, by path."""
    return sorted(RECIPES.rglob("*.toml"))


def find(name: str) -> Path:
    """The file of a recipe: a path to a TOML file, or the stem of one under bench/recipes.

    FileNotFoundError for a path, ValueError with the known names for a stem, if there is none.
    """
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no recipe file at {name}")
        return Path(name)
    return look_up("recipe", name, {path.stem: path for path in all_files()})


def load(name: str) -> Recipe[Any]:
    """Reads and checks a recipe. ValueError naming the file and the key at fault."""
    path = find(name)
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    return parse({"name": path.stem, **values}, str(path))


def parse(values: dict[str, Any], where: str) -> Recipe[Any]:
    """Checks a recipe's values, by the schema and by what they name. ValueError naming `where` and the key at fault."""
    try:
        method = values.get("method")
        options = registry.entry(str(method.get("name") if isinstance(method, dict) else method)).options
        recipe = Recipe[options].model_validate(values)  # type: ignore[valid-type]
        datasets.dataset(recipe.dataset)
        presets.preset(recipe.views, recipe.size)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {key}: {_sentence(first)}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return recipe


def _sentence(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key"
    if error["type"] == "missing":
        return "missing key"
    return f"{error['msg']}, not {error['input']!r}"
