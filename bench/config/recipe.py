"""One experiment: data, views, method, optimizer, probe. A TOML file of `bench/recipes/`, checked by one schema.

A file with `base = "NAME"` takes each key and table that it does not have from that recipe, all but `source` and
`[expected]`. A base has no base.
"""

import reprlib
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import tyro
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from twoview.bench.config.progressive import Progressive
from twoview.bench.config.search_space import Search
from twoview.loaders import datasets, limits, presets
from twoview.loaders.names import checked_name, look_up
from twoview.methods import registry
from twoview.methods.backbones import Backbone
from twoview.methods.method import Options
from twoview.methods.optim import Optim
from twoview.methods.precision import Precision
from twoview.methods.settings import Images, Settings, Side, Text, at_most, first_fault
from twoview.methods.trainer import Compile
from twoview.methods.vit import VITS

RECIPES = Path(__file__).parents[1] / "recipes"
OWN = ("source", "expected")  # what a recipe has not from its base
ABOUT = {"source", "inferred", "base", "expected", "budget", "search"}  # keys that do not decide a run's outcome
DOTS = 1000  # the parser takes time by the square of a dotted key's parts
M = TypeVar("M", bound=Options)
# Where a number comes from: read in a source, in someone's account of it, concluded, remembered, or nowhere to be read.
Provenance = Annotated[Text, Field(pattern=r"^(found|found secondary|inferred|recalled|not found): \S")]
Name = Annotated[str, AfterValidator(partial(checked_name, "recipe"))]
SomeImages = Annotated[PositiveInt, at_most(limits.SAMPLES)]
Epochs = Annotated[PositiveInt, at_most(limits.EPOCHS)]
Batch = Annotated[PositiveInt, at_most(limits.BATCH)]
Threads = Annotated[NonNegativeInt, at_most(limits.THREADS)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Expected(Settings):
    """The `[expected]` table: the accuracy that the source reports, in percent. What it does not report is absent."""

    linear_top1: PositiveFloat | None = None
    knn_top1: PositiveFloat | None = None
    provenance: Provenance = "not found: no accuracy given"

    @model_validator(mode="after")
    def _stands_for_itself(self) -> Self:
        if (self.linear_top1 or self.knn_top1) and self.provenance.startswith("not found"):
            raise ValueError("an expected accuracy needs a provenance: found, found secondary, inferred or recalled")
        return self


class Budget(Settings):
    """The `[budget]` table: what the source spent on pretraining. What it does not report is absent."""

    gpus: Annotated[Count, Field(gt=0)] | None = None
    gpu: Text | None = None  # model
    hours: PositiveFloat | None = None  # wall time
    memory_gib: PositiveFloat | None = None  # peak on each GPU
    provenance: Provenance = "not found: no cost given"


class Probe(Settings):
    """The `[probe]` table: how the frozen encoder is judged."""

    train_images: Images = 0  # from the train split, equally many a class; 0 means all
    held_out: Images = 0  # images of the train split left out first, as the recipe's own held_out
    test_images: Images = 0  # from the test split, equally many a class; 0 means all
    k: SomeImages = 200  # neighbors of the weighted kNN
    temperature: PositiveFloat = 0.1  # of the kNN's votes
    weight_decay: PositiveFloat = 1e-3  # of the linear probe
    online: bool = False  # a linear head learns beside the training, which it does not change
    online_knn_epochs: Count = 0  # kNN of training images after every so many epochs; 0: never
    online_knn_images: SomeImages = 1000  # of that kNN's bank, and a quarter as many queries


class LongTail(Settings):
    """The `[long_tail]` table: the classes to pretrain on made unequal, as `loaders/samplers.py` does it."""

    ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0  # of the first class's images to the last's
    kind: Literal["exponential", "power"] = "exponential"  # how a class's images fall with its number


class Recipe(Settings, Generic[M]):
    """One experiment. Each field is a key of the TOML file and an option of `twoview train`."""

    name: Name  # of the experiment and its files: letters, digits and ._-; by default the file's stem
    source: Text  # paper, table and cell, or who chose the values
    inferred: Annotated[Text, tyro.conf.Suppress] = ""  # which values are not the source's, and whose they are
    base: Annotated[Text, tyro.conf.Suppress] = ""  # whose other keys it has; a path begins at its folder
    dataset: str  # see `twoview list datasets`
    views: str  # a preset of loaders/presets.py
    size: Side  # side of a view, in pixels
    progressive: Progressive = Progressive()  # smaller views in the first epochs
    method: M
    backbone: Backbone = Backbone()
    optim: Optim = Optim()
    probe: Probe = Probe()
    epochs: Epochs  # passes over the training images
    batch: Batch  # images a step, whatever the number of views
    train_images: Images = 0  # to pretrain on, equally many a class; 0 means all
    held_out: Images = 0  # of the train split, at random, first: the validation split of lightning-bolts
    long_tail: LongTail = LongTail()  # of those images, fewer of each further class
    classes_per_batch: Images = 0  # each batch holds images of so many classes, equally many; 0 means of any
    classes_per_rank: bool = False  # each rank's part of a batch holds so many classes, no two ranks the same
    with_replacement: bool = False  # draws the images of such a class; else all have come before one comes again
    precision: Precision | Literal["auto"] = "auto"  # of autocast; auto measures which is the fastest here
    compile: Compile = "off"  # torch.compile's mode
    cuda_graph: bool = False  # the whole step, optimizer and moving averages too, recorded and launched at once
    sync_batchnorm: bool = False  # statistics over the joined batch of all ranks
    deterministic: bool = False  # two runs are bit-equal, at the price of speed
    loader_threads: Threads = 0  # 0: measured beside a model on the CPU, every core beside a GPU
    resident: Literal["auto", "on", "off"] = "auto"  # images and augmentation on the device; auto: small ones on a GPU
    checkpoint_steps: Count = 0  # a checkpoint after so many steps of an epoch too; 0: after epochs only
    damaged: Literal["raise", "skip"] = "raise"  # at an image that cannot be decoded: stop, or take another one
    seed: Count = 0  # of weights, order and augmentations
    expected: Annotated[Expected, tyro.conf.Suppress] = Expected()
    budget: Annotated[Budget, tyro.conf.Suppress] = Budget()
    search: Annotated[Search, tyro.conf.Suppress] = Search()

    def settings(self) -> dict[str, Any]:
        """What decides a run's outcome: all but where its values come from, what to expect of it and how to search."""
        return self.model_dump(mode="json", exclude=ABOUT)


def uses_labels(method: str) -> bool:
    """Whether the method of that name learns from labels whatever its options; one that is not ours is not known to."""
    known = registry.METHODS.get(method)
    return known is not None and known.method.uses_labels


def all_files() -> list[Path]:
    """The recipe files of the package, by path."""
    return sorted(RECIPES.rglob("*.toml"))


def find(name: str) -> Path:
    """The file of a recipe: a path to a TOML file, or the stem of one under bench/recipes.

    FileNotFoundError for a path, ValueError with the known names for a stem, if there is none; ValueError for a path to
    something else.
    """
    if not name.endswith(".toml"):
        return look_up("recipe", name, _stems())
    path = Path(name)
    if path.is_file():
        return path
    if path.exists():
        raise ValueError(f"a recipe must be a TOML file, and {name} is a folder, a pipe or a device")
    raise FileNotFoundError(f"no recipe file at {name}")


def _stems() -> dict[str, Path]:
    return {path.stem: path for path in all_files()}


def load(name: str) -> Recipe[Any]:
    """Reads and checks a recipe. ValueError naming the file and the key at fault."""
    path = find(name)
    values = _read(path)
    if "base" in values:
        values = _shared(values["base"], path) | values
    recipe = parse({"name": path.stem, **values}, str(path))
    check_schedule(recipe, str(path))
    return recipe


def _shared(base: Any, path: Path) -> dict[str, Any]:
    """What the recipe in `path` has from its base, a recipe's name or a path from the folder of `path`."""
    if not isinstance(base, str):
        raise ValueError(f"{path}: base must be the name of a recipe, or a TOML file")
    try:
        values = _read(find(str(path.parent / base) if base.endswith(".toml") else base))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: base: {error}") from None
    if "base" in values:
        raise ValueError(f"{path}: base: {base} has a base itself")
    return {key: value for key, value in values.items() if key not in OWN}


def _read(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        content = file.read(limits.RECIPE_BYTES.value + 1)
    limits.RECIPE_BYTES.check(max(len(content), path.stat().st_size), f"the recipe {path}")
    if max(part.count(b".") for part in content.split(b"=")) > DOTS:
        raise ValueError(f"{path} is no recipe: between two signs = must be at most {DOTS:,} dots")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except ValueError as error:  # of TOML, of UTF-8, or of integers of thousands of digits
        raise ValueError(f"{path} is not TOML: {error}") from None
    except RecursionError:
        raise ValueError(f"{path} is no recipe: its tables lie too deep in one another") from None


def overrides(one: Recipe[Any]) -> dict[str, Any] | None:
    """The settings of a recipe that are not as in the file of its name, by dotted key; None without such a file."""
    if one.name not in _stems():
        return None
    plain = flat(load(one.name).settings())
    return {key: value for key, value in flat(one.settings()).items() if key not in plain or plain[key] != value}


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Tables within tables as one, by dotted key."""
    one: dict[str, Any] = {}
    for key, value in values.items():
        one |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return one


def parse(values: dict[str, Any], where: str) -> Recipe[Any]:
    """Checks a recipe's values, by the schema and by what they name. ValueError naming `where` and the key at fault."""
    try:
        method = values.get("method")
        name = method.get("name") if isinstance(method, dict) else method
        options = registry.entry(name if isinstance(name, str) else reprlib.repr(name)).options
        recipe = Recipe[options].model_validate(values)  # type: ignore[valid-type]
        count = checked_dataset(recipe.dataset).count
        presets.preset(recipe.views, recipe.size)
        recipe.progressive.check(recipe.size, recipe.epochs)
        _check_patches(recipe)
        if count is not None and recipe.classes_per_batch > count:
            raise ValueError(f"classes_per_batch is {recipe.classes_per_batch}: {recipe.dataset} has {count} classes")
    except ValidationError as error:
        raise ValueError(f"{where}: {first_fault(error)}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return recipe


def with_values(recipe: Recipe[Any], values: Mapping[str, Any]) -> Recipe[Any]:
    """The recipe with other values at keys such as "optim.lr". ValueError, naming the key, if there is none such."""
    if not values:
        return recipe
    changed = recipe.model_dump(mode="json")
    for key, value in values.items():
        *tables, last = key.split(".")
        table: Any = changed
        for name in tables:
            table = table.get(name) if isinstance(table, dict) else None
        if not isinstance(table, dict) or last not in table:
            raise ValueError(f"{recipe.name}: {key} is no key of the recipe")
        table[last] = value
    return parse(changed, f"{recipe.name} with {', '.join(f'{key} {value!r}' for key, value in values.items())}")


def checked_dataset(name: str) -> datasets.Dataset:
    """The dataset of that name, which may stand in a file's: `hf:OWNER/NAME` leads nowhere else. ValueError if not."""
    for part in name.replace("/", ":").split(":"):
        checked_name("dataset", part)
    return datasets.dataset(name)


def in_a_file_name(dataset: str) -> str:
    """A dataset's name in the names of records and files, which have not all the characters of `hf:OWNER/NAME`."""
    return dataset.replace(":", "-").replace("/", "-")


def check_schedule(recipe: Recipe[Any], where: str) -> None:
    """ValueError for a training that would end before its warm-up does. A record of some steps may be of such a one."""
    if recipe.optim.warmup_epochs > recipe.epochs:
        raise ValueError(
            f"{where}: optim.warmup_epochs must be at most the epochs, {recipe.epochs}, "
            f"got {recipe.optim.warmup_epochs:g}"
        )


def _check_patches(recipe: Recipe[Any]) -> None:
    """ValueError where views that grow would not always divide into a ViT's patches."""
    multiple, patch = recipe.progressive.multiple, recipe.backbone.patch
    if recipe.progressive.start and recipe.backbone.name in VITS and multiple % patch:
        raise ValueError(f"progressive.multiple must be a multiple of backbone.patch, {patch}, not {multiple}")
