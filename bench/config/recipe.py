"""A recipe describes one experiment: data, views, method, optimizer, probe. It is a TOML file with a fixed schema.

The recipes of this project are in `bench/recipes/`. A file with `base = "NAME"` takes every key and table that it
lacks from that recipe, except `source` and `[expected]`. A base must not have a base itself.
"""

import reprlib
import tomllib
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import tyro
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from twoview.bench.config.contents import Contents, own_data, own_name
from twoview.bench.config.progressive import Progressive
from twoview.bench.config.search_space import Search
from twoview.bench.config.views import Views, as_toml, with_change
from twoview.bench.config.views import check as check_views
from twoview.bench.config.views import stored as stored_views
from twoview.loaders import datasets, limits
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
OWN = ("source", "expected")  # keys that a recipe does not take from its base
# Keys that do not influence a run's outcome. Own data are told apart by the hash in `dataset`, not by where they are.
ABOUT = {"source", "inferred", "base", "expected", "budget", "search", "data", "test_data", "contents"}
DOTS = 1000  # maximum number of dots in a key: the parser's time is quadratic in them
M = TypeVar("M", bound=Options)
# Where a number comes from: read in its source, read in someone's account of the source, concluded from other facts,
# remembered, or not found anywhere. Details follow the colon.
Provenance = Annotated[Text, Field(pattern=r"^(found|found secondary|inferred|recalled|not found): \S")]
Name = Annotated[str, AfterValidator(partial(checked_name, "recipe"))]
SomeImages = Annotated[PositiveInt, at_most(limits.SAMPLES)]
Epochs = Annotated[PositiveInt, at_most(limits.EPOCHS)]
Batch = Annotated[PositiveInt, at_most(limits.BATCH)]
Threads = Annotated[NonNegativeInt, at_most(limits.THREADS)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Expected(Settings):
    """The `[expected]` table: the accuracies that the source reports, in percent. None if it does not report one."""

    linear_top1: PositiveFloat | None = None
    knn_top1: PositiveFloat | None = None
    provenance: Provenance = "not found: no accuracy given"

    @model_validator(mode="after")
    def _stands_for_itself(self) -> Self:
        if (self.linear_top1 or self.knn_top1) and self.provenance.startswith("not found"):
            raise ValueError("an expected accuracy needs a provenance: found, found secondary, inferred or recalled")
        return self


class Budget(Settings):
    """The `[budget]` table: what the source spent on pretraining. A value that it does not report is None."""

    gpus: Annotated[Count, Field(gt=0)] | None = None  # number of GPUs
    gpu: Text | None = None  # model of the GPUs
    hours: PositiveFloat | None = None  # wall-clock time
    memory_gib: PositiveFloat | None = None  # peak memory on each GPU
    provenance: Provenance = "not found: no cost given"


class Probe(Settings):
    """The `[probe]` table: how the frozen encoder is evaluated."""

    train_images: Images = 0  # images of the train split to use, the same number per class; 0 means all
    held_out: Images = 0  # images of the train split to hold out first, chosen in the same way as the recipe's held_out
    test_images: Images = 0  # images of the test split to use, the same number per class; 0 means all
    k: SomeImages = 200  # neighbors of the weighted kNN
    temperature: PositiveFloat = 0.1  # temperature of the kNN's votes
    weight_decay: PositiveFloat = 1e-3  # weight decay of the linear probe
    online: bool = False  # train a linear head during pretraining, without changing the pretraining
    online_knn_epochs: Count = 0  # epochs between evaluations of a kNN on training images; 0 means never
    online_knn_images: SomeImages = 1000  # images in the bank of that kNN; it has a quarter as many queries


class LongTail(Settings):
    """The `[long_tail]` table: class imbalance in pretraining, made by `long_tail` of `loaders/samplers.py`."""

    ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0  # size of the first class divided by the last's
    kind: Literal["exponential", "power"] = "exponential"  # how the number of images falls from class to class


class Recipe(Settings, Generic[M]):
    """One experiment. Each field is a key of the TOML file and an option of `twoview train`."""

    name: Name  # name of the experiment and its files: letters, digits and ._-; by default the file's stem
    source: Text  # paper, table and cell, or who chose the values
    inferred: Annotated[Text, tyro.conf.Suppress] = ""  # values that the source does not give, and their origin
    base: Annotated[Text, tyro.conf.Suppress] = ""  # recipe that has all other keys; a path is relative to this file
    dataset: str = ""  # see `twoview list datasets`
    data: Annotated[str, Field(min_length=1)] | None = (
        None  # your own images instead: a folder, .beton, list, Parquet, tar shards, hf:NAME or saved `datasets`
    )
    test_data: Annotated[str, Field(min_length=1)] | None = None  # labeled images to test on; see docs/your-data.md
    contents: Annotated[Contents | None, tyro.conf.Suppress] = None  # what was found in `data`
    normalize: Literal["dataset", "imagenet"] = "dataset"  # whose channel mean and standard deviation to normalize by
    views: Views  # preset of crops and augmentations, see `twoview list views`, or a table that changes one
    size: Side  # side of a view, in pixels
    progressive: Progressive = Progressive()  # smaller views in the first epochs
    method: M
    backbone: Backbone = Backbone()
    optim: Optim = Optim()
    probe: Probe = Probe()
    epochs: Epochs  # passes over the training images
    batch: Batch  # images per step, regardless of the number of views
    train_images: Images = 0  # images to pretrain on, the same number per class; 0 means all
    held_out: Images = 0  # random images of the train split to hold out first, like lightning-bolts' validation split
    long_tail: LongTail = LongTail()  # class imbalance: fewer images from class to class
    classes_per_batch: Images = 0  # number of classes in each batch, each with the same number of images; 0 means any
    classes_per_rank: bool = False  # apply that number to each rank's part of a batch; no two ranks share a class
    with_replacement: bool = False  # draw a class's images with replacement; else none repeats before all have come
    precision: Precision | Literal["auto"] = "auto"  # precision of autocast; auto takes the fastest on this device
    compile: Compile = "off"  # mode of torch.compile
    cuda_graph: bool = False  # record the whole step, with optimizer and moving averages, as one CUDA graph
    # Parts in which the encoder sees a batch, with the memory of one part and the loss of the whole batch (GradCache).
    # BatchNorm in the encoder uses the statistics of a part, BatchNorm in the heads those of the whole batch.
    accumulate: Batch = 1
    sync_batchnorm: bool = False  # BatchNorm statistics over the batches of all ranks together
    deterministic: bool = False  # make runs bit-for-bit reproducible, at the cost of speed
    loader_threads: Threads = 0  # 0 means: measured if the model is on the CPU, all cores if it is on a GPU
    resident: Literal["auto", "on", "off"] = "auto"  # keep and augment images on the device; auto: if small, on a GPU
    checkpoint_steps: Count = 0  # steps between checkpoints within an epoch; 0 means after epochs only
    damaged: Literal["raise", "skip"] = "raise"  # if an image cannot be decoded: stop, or use another image
    seed: Count = 0  # seed of weights, image order and augmentations
    expected: Annotated[Expected, tyro.conf.Suppress] = Expected()
    budget: Annotated[Budget, tyro.conf.Suppress] = Budget()
    search: Annotated[Search, tyro.conf.Suppress] = Search()

    @model_validator(mode="before")
    @classmethod
    def _own_data_stand_for_the_dataset(cls, values: Any) -> Any:
        """Name the dataset after the own data, if there are any: nothing may be called by the name of another."""
        if not isinstance(values, dict) or not isinstance(data := values.get("data"), str) or not data:
            return values
        if data.startswith("hf:"):
            return values | {"dataset": data, "data": None, "contents": None}
        contents = values.get("contents")
        name = (
            contents.get("name") if isinstance(contents, dict) else getattr(contents, "name", f"own:{own_name(data)}")
        )
        return values | {"dataset": name}

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if not self.dataset:
            raise ValueError("a recipe needs a dataset, or data with the path of your own images")
        if self.test_data and not self.data:
            raise ValueError("test_data can only be given together with data")
        return self

    def settings(self) -> dict[str, Any]:
        """Return the keys that decide a run's outcome: all but `ABOUT`, as plain values."""
        values = self.model_dump(mode="json", exclude=ABOUT)
        if values["backbone"].get("sha256"):  # identifies the weights, wherever their file is
            del values["backbone"]["checkpoint"]
        return values

    def published(self) -> dict[str, Any]:
        """Return all keys as plain values for records and logs: of a path, only the last part, which names no user."""
        values = self.model_dump(mode="json")
        for table, key in ((values, "data"), (values, "test_data"), (values["backbone"], "checkpoint")):
            if table.get(key):
                table[key] = Path(table[key]).name
        return values


def uses_labels(method: Mapping[str, Any]) -> bool:
    """Return whether the method of a `[method]` table learns from labels; False if the table is not valid."""
    known = registry.METHODS.get(str(method.get("name")))
    if known is None:
        return False
    try:
        return known.method.uses_labels(known.options.model_validate(method))
    except ValidationError:
        return False


def all_files() -> list[Path]:
    """Return the recipe files of the package, sorted by path."""
    return sorted(RECIPES.rglob("*.toml"))


def find(name: str) -> Path:
    """Return the file of a recipe. name: a path to a TOML file, or the stem of one under bench/recipes.

    Raises FileNotFoundError if a path does not exist. Raises ValueError if it is not a regular file, or, with the
    known names, if no recipe has the stem.
    """
    if not name.endswith(".toml"):
        return look_up("recipe", name, _stems())
    path = Path(name)
    if path.is_file():
        return path
    if path.exists():
        raise ValueError(f"a recipe must be a TOML file, but {name} is a folder, a pipe or a device")
    raise FileNotFoundError(f"no recipe file at {name}")


def _stems() -> dict[str, Path]:
    """Return the name of each recipe of the package -> its file."""
    return {path.stem: path for path in all_files()}


def load(name: str) -> Recipe[Any]:
    """Read and check a recipe. name: see `find`. Raises ValueError, naming the file and the key, if it is not valid."""
    path = find(name)
    values = _read(path)
    if "base" in values:
        shared = _shared(values["base"], path)
        if "dataset" in values:
            shared = {key: value for key, value in shared.items() if key not in ("data", "test_data")}
        values = shared | values
    recipe = parse({"name": path.stem, **values}, str(path))
    check_schedule(recipe, str(path))
    return recipe


def _shared(base: Any, path: Path) -> dict[str, Any]:
    """Return the values that the recipe in `path` takes from its base: a recipe's name or a path relative to `path`."""
    if not isinstance(base, str):
        raise ValueError(f"{path}: base must be the name of a recipe, or a TOML file")
    try:
        values = _read(find(str(path.parent / base) if base.endswith(".toml") else base))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: base: {error}") from None
    if "base" in values:
        raise ValueError(f"{path}: base: {base} has a base itself, and a base must not have one")
    return {key: value for key, value in values.items() if key not in OWN}


def _read(path: Path) -> dict[str, Any]:
    """Return a TOML file's keys. Raises ValueError, naming the file, if it is too large, too nested or not TOML."""
    with open(path, "rb") as file:
        content = file.read(limits.RECIPE_BYTES.value + 1)
    limits.RECIPE_BYTES.check(max(len(content), path.stat().st_size), f"the recipe {path}")
    if max(part.count(b".") for part in content.split(b"=")) > DOTS:
        raise ValueError(f"{path} is not a recipe: there must be at most {DOTS:,} dots between two = signs")
    try:
        return _with_paths(tomllib.loads(content.decode("utf-8-sig")), path.parent)
    except ValueError as error:  # about TOML, UTF-8, or an integer of thousands of digits
        raise ValueError(f"{path} is not TOML: {error}") from None
    except RecursionError:
        raise ValueError(f"{path} is not a recipe: its tables are nested too deeply") from None


def _fields(table: Any) -> Collection[str]:
    """Return the keys that a table of a recipe may have; none for a value that is not a table."""
    return type(table).model_fields if isinstance(table, Settings) else ()


def _with_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a file's values, in which paths are relative to its folder, with paths from here."""
    for table, key in ((values, "data"), (values, "test_data"), (values.get("backbone"), "checkpoint")):
        if isinstance(table, dict) and isinstance(given := table.get(key), str) and given:
            table[key] = given if given.startswith("hf:") else str(folder / given)
    return values


def overrides(one: Recipe[Any]) -> dict[str, Any] | None:
    """Return the settings that differ from those in the recipe's own file, by dotted key; None if there is no file."""
    if one.name not in _stems():
        return None
    plain, mine = compared(load(one.name)), compared(one)
    return {key: value for key, value in mine.items() if key not in plain or plain[key] != value}


def compared(one: Recipe[Any]) -> dict[str, Any]:
    """Return the settings by dotted key. The views are one text, as a table of them says something by what it lacks."""
    return flat(one.settings() | {"views": as_toml(one.views)})


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested tables as a single one, by dotted key. above: prefix of each key."""
    one: dict[str, Any] = {}
    for key, value in values.items():
        one |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return one


def parse(values: dict[str, Any], where: str) -> Recipe[Any]:
    """Check values by the schema and return them as a recipe.

    Raises ValueError, naming `where` and the key, if a value is not valid, if the dataset, views or method does not
    exist, or if settings do not fit together.
    """
    try:
        method = values.get("method")
        name = method.get("name") if isinstance(method, dict) else method
        options = registry.entry(name if isinstance(name, str) else reprlib.repr(name)).options
        if "views" in values:
            values = values | {"views": stored_views(values["views"])}
        recipe = Recipe[options].model_validate(values)  # type: ignore[valid-type]
        count = _number_of_classes(recipe)
        recipe.progressive.check(recipe.size, recipe.epochs)
        check_views(recipe.views, {recipe.progressive.side(recipe.size, 0), recipe.size}, recipe.method)
        _check_patches(recipe)
        if recipe.batch % recipe.accumulate:
            raise ValueError(f"batch must be divisible by accumulate, {recipe.accumulate}, got {recipe.batch}")
        if count is not None and recipe.classes_per_batch > count:
            raise ValueError(
                f"classes_per_batch must be at most {count}, the number of classes of {recipe.dataset}, "
                f"got {recipe.classes_per_batch}"
            )
    except ValidationError as error:
        raise ValueError(f"{where}: {first_fault(error)}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return recipe


def with_values(recipe: Recipe[Any], values: Mapping[str, Any]) -> Recipe[Any]:
    """Return the recipe with other values at dotted keys such as "optim.lr".

    Raises ValueError, naming the key, if the recipe does not have it.
    """
    if not values:
        return recipe
    changed = recipe.model_dump(mode="json")
    if "dataset" in values and "data" not in values:
        changed |= {"data": None, "test_data": None, "contents": None}  # the dataset takes the place of own images
    for key, value in values.items():
        *tables, last = key.split(".")
        if tables[:1] == ["views"]:  # a table of changes, which has any key only if it is changed
            changed["views"] = with_change(changed["views"], [*tables[1:], last], value)
            continue
        table: Any = changed
        kind: Any = recipe
        for name in tables:
            table, kind = (table.get(name), getattr(kind, name)) if name in _fields(kind) else (None, None)
        if last not in _fields(kind):
            raise ValueError(f"{recipe.name}: {key} is not a key of the recipe")
        table[last] = value
    return parse(changed, f"{recipe.name} with {', '.join(f'{key} {value!r}' for key, value in values.items())}")


def _number_of_classes(recipe: Recipe[Any]) -> int | None:
    """Return the number of classes, or None if it is only known from the data. Raises ValueError for a wrong name."""
    if recipe.data:
        return len(recipe.contents.classes) if recipe.contents else None
    return checked_dataset(recipe.dataset).count


def dataset_of(recipe: Recipe[Any]) -> datasets.Dataset:
    """Return the recipe's dataset, or its own data as one. Raises ValueError if these have not been read yet."""
    if not recipe.data:
        return datasets.dataset(recipe.dataset)
    if recipe.contents is None:
        raise ValueError(f"{recipe.name}: the images at {recipe.data} must be read first, as `twoview train` does")
    return own_data(recipe.data, recipe.test_data, recipe.contents)


def checked_dataset(name: str) -> datasets.Dataset:
    """Return the dataset with this name.

    Raises ValueError if the name is unknown, or if a part of it, such as OWNER in `hf:OWNER/NAME`, is unsafe:
    names become parts of file names, so a part must not lead to another folder.
    """
    for part in name.replace("/", ":").split(":"):
        checked_name("dataset", part)
    return datasets.dataset(name)


def in_a_file_name(name: str) -> str:
    """Return a name of a dataset or backbone as a part of a file name, unlike `hf:OWNER/NAME` and `timm:NAME`."""
    return name.replace(":", "-").replace("/", "-")


def check_schedule(recipe: Recipe[Any], where: str) -> None:
    """Raise ValueError if training would end before its warm-up does.

    `parse` does not check this, because it must also accept the recipes in records of short measurements, which may end
    during the warm-up.
    """
    if recipe.optim.warmup_epochs > recipe.epochs:
        raise ValueError(
            f"{where}: optim.warmup_epochs must be at most the epochs, {recipe.epochs}, "
            f"got {recipe.optim.warmup_epochs:g}"
        )


def _check_patches(recipe: Recipe[Any]) -> None:
    """Raise ValueError if growing views could not be divided into a ViT's patches in some epoch."""
    multiple, patch = recipe.progressive.multiple, recipe.backbone.patch
    if recipe.progressive.start and recipe.backbone.name in VITS and multiple % patch:
        raise ValueError(f"progressive.multiple must be a multiple of backbone.patch, {patch}, got {multiple}")
