"""Your own images as betons: converted once, found again by a hash of what they come from, and never mixed up."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from twoview.bench.config.contents import Contents, OwnData, own_data, own_name
from twoview.bench.config.recipe import Recipe, parse, uses_labels, with_values
from twoview.bench.data.conversion import convert, is_beton, say, source_origin
from twoview.bench.data.inspection import left_out
from twoview.bench.runtime.cores import cpu_count
from twoview.loaders import beton, presets
from twoview.loaders.beton import Beton
from twoview.loaders.checksum import xxh64_of
from twoview.loaders.datasets import IMAGENET_MEAN, IMAGENET_STD, Split
from twoview.loaders.loader import Loader
from twoview.loaders.prepared import prepared
from twoview.loaders.samplers import shuffled, spread
from twoview.loaders.sources import Source, open_source
from twoview.loaders.sources.source import classes_in_words, numbered
from twoview.loaders.storage import Storage

MEASURED = 5000  # maximum number of training images on which mean and standard deviation are measured
TESTED = 5  # one image in so many of each class is for testing, if there are no images for it
SEED = 0  # of the choice of these images
STORAGE = Storage(compress=True)
Damaged = Literal["raise", "skip"]


class Opened(NamedTuple):
    """Your own images, opened. files: "train", and "test" if there are images for it -> beton. classes: their names.

    held_out: whether the test images are a part of the images at the path.
    """

    files: Mapping[str, Beton]
    classes: tuple[str, ...]
    held_out: bool = False


def read(recipe: Recipe[Any], folder: Path) -> Recipe[Any]:
    """Return the recipe with what is in its own data: classes, numbers of images, hashes, mean and deviation.

    The images are converted to betons in `folder`, if that has not been done. A recipe with a named dataset is returned
    unchanged. Raises ValueError, naming the recipe or the file, if the images cannot be used for the recipe.
    """
    if not recipe.data:
        return recipe
    found = opened(recipe.data, recipe.test_data, folder, recipe.damaged)
    if not found.classes:
        _check_no_labels(recipe)
    contents = contents_of(recipe.data, found, recipe.size)
    say(f"{contents.name}: {in_words(contents)}")
    paths = {key: str(Path(path).absolute()) for key in ("data", "test_data") if (path := getattr(recipe, key))}
    values = {**recipe.model_dump(mode="json"), **paths, "contents": contents.model_dump(mode="json")}
    return with_values(parse(values, recipe.name), _all_of_fewer(recipe, contents))


def _all_of_fewer(recipe: Recipe[Any], contents: Contents) -> dict[str, int]:
    """Return 0, which means all, for each subset that the recipe takes of a dataset with more images than there are."""
    asked = {
        "train_images": (recipe.train_images, contents.images["train"]),
        "probe.train_images": (recipe.probe.train_images, contents.images["train"]),
    }
    if "test" in contents.images:
        asked["probe.test_images"] = recipe.probe.test_images, contents.images["test"]
    fewer = {key: there for key, (count, there) in asked.items() if count > there}
    for key, there in fewer.items():
        say(f"{key}: all {there:,} images are used, since the recipe asks for {asked[key][0]:,}")
    return dict.fromkeys(fewer, 0)


def in_words(contents: Contents) -> str:
    """Return in a sentence how many images there are of what, and which are held out."""
    counts = " and ".join(f"{count:,} {split} images" for split, count in contents.images.items())
    held = "; one image in five of each class is held out for testing" if contents.held_out else ""
    return f"{counts} {f'of {classes_in_words(contents.classes)}' if contents.classes else 'without labels'}{held}"


def counted(recipe: Recipe[Any]) -> Recipe[Any]:
    """Return the recipe with the classes and numbers of its own images, which are not converted: for a plan only."""
    if not recipe.data or recipe.contents:
        return recipe
    if is_beton(recipe.data):
        file = beton.open_beton(recipe.data)
        classes, images = _classes(file), {"train": len(file)}
    else:
        source = open_source(recipe.data)
        classes, images = source.classes, {split: len(samples) for split, samples in source.splits.items()}
    contents = Contents(
        name=f"own:{own_name(recipe.data)}",
        classes=classes,
        images=images,
        hashes={},
        held_out=False,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    return recipe.model_copy(update={"contents": contents})


def dataset_at(data: str, test_data: str | None, folder: Path, size: int) -> OwnData:
    """Return the images at a path as a dataset, converted to betons in `folder`. size: of the views, in pixels."""
    found = opened(data, test_data, folder, "raise")
    return own_data(data, test_data, contents_of(data, found, size))


def contents_of(data: str, found: Opened, size: int) -> Contents:
    """Return what a recipe stores about opened images."""
    indices = np.array([found.files[split].index for split in sorted(found.files)], np.uint64)
    mean, std = statistics(found.files["train"], size)
    return Contents(
        name=f"own:{own_name(data)}-{xxh64_of(indices) >> 32:08x}",
        classes=found.classes,
        images={split: len(file) for split, file in found.files.items()},
        hashes={split: f"{file.index:016x}" for split, file in found.files.items()},
        held_out=found.held_out,
        mean=mean,
        std=std,
    )


def split_of(dataset: OwnData, split: Split, folder: Path) -> Beton:
    """Return the beton of a split of your own images.

    Raises ValueError if they have no such split, or if they are not the images that `dataset.contents` describes.
    """
    # Whether images were skipped was decided when the contents were read, and the hash tells if they are the same.
    found, wanted = opened(dataset.data, dataset.test_data, folder, "skip"), dataset.contents
    if split not in found.files:
        raise ValueError(f"{dataset.data} has no images for testing: give labeled ones with --test-data")
    file = found.files[split]
    if f"{file.index:016x}" != wanted.hashes.get(split) or found.held_out != wanted.held_out:
        raise ValueError(
            f"the {split} images at {dataset.data} must be those of {dataset.name} (hash {wanted.hashes.get(split)}), "
            f"got others (hash {file.index:016x})"
        )
    return file


def opened(data: str, test_data: str | None, folder: Path, damaged: Damaged) -> Opened:
    """Open the images at a path, and those for testing at another if one is given, as betons.

    If there are no images for testing but labels, a fifth of each class is held out. folder: where converted betons
    are. Raises FileNotFoundError or ValueError, naming the path or the file.
    """
    files, classes, _ = betons_at(data, folder, damaged)
    if test_data:
        others, their_classes, _ = betons_at(test_data, folder, damaged)
        test = others.get("test", others["train"])
        if test.index == files["train"].index:
            say(f"the test images at {test_data} are the training images, so accuracies are not of new images")
        return Opened({"train": files["train"], "test": _relabeled(test, test_data, their_classes, classes)}, classes)
    if "test" in files or not classes:
        return Opened(files, classes)
    tested = held_out(files["train"].labels)
    train, test = (files["train"].only(np.flatnonzero(chosen)) for chosen in (~tested, tested))
    if not len(test):
        raise ValueError(f"{data} must have at least two images of a class: one is held out for testing")
    return Opened({"train": train, "test": test}, classes, held_out=True)


def held_out(labels: np.ndarray) -> np.ndarray:
    """Return which samples are for testing: a fifth of each class, at least one of two, none without a label.

    labels: int64 (N,). Returns bool (N,), always the same for the same labels.
    """
    order = shuffled(len(labels), SEED, 0)
    order = order[labels[order] >= 0]
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, in random order within a class
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    chosen = np.zeros(len(labels), bool)
    chosen[order[rank < np.repeat(np.maximum(counts // TESTED, counts > 1), counts)]] = True
    return chosen


def statistics(file: Beton, size: int) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of the RGB channels, in [0, 1], over the views that the probes see.

    size: side of these views, in pixels. At most MEASURED images are used, from all parts of the file.
    """
    chosen = spread(len(file), MEASURED)
    counts = torch.zeros(3, 256, dtype=torch.int64)
    views = presets.preset("eval", size)
    with Loader(file, views, 64, indices=chosen, shuffle=False, drop_last=False, threads=cpu_count()) as loader:
        for batch in loader.epoch(0):
            for channel, values in enumerate(batch.views[0].unbind(1)):
                counts[channel] += torch.bincount(values.reshape(-1).int(), minlength=256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts / counts.sum(1, keepdim=True)
    mean = (shares * levels).sum(1)
    std = (shares * (levels - mean[:, None]) ** 2).sum(1).sqrt().clamp(min=1 / 255)  # of images in one color it is 0
    red, green, blue = (round(value, 4) for value in mean.tolist())
    return (red, green, blue), tuple(round(value, 4) for value in std.tolist())


def betons_at(path: str, folder: Path, damaged: Damaged) -> tuple[Mapping[str, Beton], tuple[str, ...], Source | None]:
    """Return split -> beton of the images at a path, the names of the classes, and what the betons are made of.

    A beton at the path is opened as it is, and made of nothing else.
    """
    if is_beton(path):
        file = beton.open_beton(path)
        return {"train": file}, _classes(file), None
    source = open_source(path)
    fingerprint = source.fingerprint()
    paths = {split: folder / f"{own_name(path)}-{fingerprint}-{split}.beton" for split in source.splits}
    if not all(path.exists() for path in paths.values()):
        for sentence in (source.text(), *source.ignored, STORAGE.rule()):
            say(sentence)
    files = {split: _converted(source, split, fingerprint, path, damaged) for split, path in paths.items()}
    return files, source.classes, source


def _converted(source: Source, split: Split, fingerprint: str, path: Path, damaged: Damaged) -> Beton:
    """Return the beton at a path of a source's split; convert it first if it does not exist."""
    origin = source_origin(source, split) | {"storage": asdict(STORAGE), "fingerprint": fingerprint}
    if not path.exists():
        skipped: dict[int, str] | None = {} if damaged == "skip" else None
        samples = prepared(source.splits[split], STORAGE)
        convert(samples, path, f"{source.path} {split}", cpu_count(), skipped, origin)
        for sentence in (skipped or {}).values():
            say(f"skipped: {sentence}")
    file = beton.open_beton(path)
    absent, names = left_out(file)
    if absent and damaged == "raise":
        raise ValueError(
            f"{absent:,} of the images at {source.path} cannot be read, such as {names[0]}: skip or mend them"
        )
    if any(file.about.get(key) != origin[key] for key in ("split", "fingerprint")):
        raise ValueError(f"{path} must be made of the {split} images at {source.path}, but does not say so: delete it")
    return file


def _classes(file: Beton) -> tuple[str, ...]:
    """Return the names of the classes of a beton: those that it says, or else its labels as text."""
    named = file.about.get("classes")
    if named is not None and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise ValueError(f"{file.path}: classes must be a list of strings, got {str(named)[:80]}")
    try:
        return numbered(file.labels, named or None)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from None


def _relabeled(file: Beton, path: str, theirs: tuple[str, ...], ours: tuple[str, ...]) -> Beton:
    """Return a beton for testing with the labels of the training classes, which must be called the same."""
    if not theirs or not ours:
        raise ValueError(f"{path if ours else 'the training images'} must have labels, to test on {path}, got none")
    if unknown := [name for name in theirs if name not in ours]:
        raise ValueError(f"{path} must only have classes of the training images, got {classes_in_words(unknown)} more")
    places = np.array([*map(ours.index, theirs), -1], np.int64)  # the last is for the label -1
    return file if theirs == ours else file.only(np.arange(len(file)), places[file.labels])


def _check_no_labels(recipe: Recipe[Any]) -> None:
    """Raise ValueError, naming the key, if the recipe needs labels."""
    needs = {
        f"method {recipe.method.name}": uses_labels(recipe.method.model_dump()),
        "long_tail": recipe.long_tail.ratio > 1,
        "classes_per_batch": recipe.classes_per_batch > 0,
        "probe.online": recipe.probe.online,
        "probe.online_knn_epochs": recipe.probe.online_knn_epochs > 0,
    }
    for key, needed in needs.items():
        if needed:
            raise ValueError(f"{recipe.name}: {key} needs labels, and the images at {recipe.data} have none")
