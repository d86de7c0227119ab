"""A folder of images: class folders, folders of splits, or images without labels, in one folder or in many."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twoview.loaders.datasets.samples import (
    HIDDEN,
    NO_IMAGE,
    Ignored,
    Samples,
    folder_names,
    images_in,
    of_an_image,
    samples_from_files,
)
from twoview.loaders.sources.source import SPLITS, Source

OUTSIDE = "images outside of the class folders"


def open_folder(folder: Path) -> Source:
    """Return the images in a folder and below.

    If its subfolders are called like splits ("train", "val", ...), each is a split. Otherwise, and within a split,
    subfolders are classes if at least two have images, and together most of all images; the labels follow the order of
    their names, as in torchvision's ImageFolder. In all other cases the images have no labels.
    Raises FileNotFoundError if there is no image, and ValueError if test images have classes of their own.
    """
    ignored: Ignored = {}
    names = folder_names(folder)
    splits = {name: SPLITS.get(name.lower()) for name in names}
    if not _directly_in(folder) and "train" in splits.values() and all(splits.values()):
        return _of_splits(folder, names, ignored)
    samples, classes, kind = _samples(folder, ignored)
    return Source(str(folder), kind, {"train": samples}, classes, samples.files, _sentences(ignored))


def _of_splits(folder: Path, names: Sequence[str], ignored: Ignored) -> Source:
    """Return the images in folders of splits. Of several for testing, the first with labels is taken."""
    train = next(name for name in names if SPLITS[name.lower()] == "train")
    samples, classes, kind = _samples(folder / train, ignored)
    splits, notes = {"train": samples}, []
    for name in sorted(set(names) - {train}, key=lambda name: list(SPLITS).index(name.lower())):
        found, theirs, _ = _samples(folder / name, ignored, classes)
        if "test" in splits or bool(theirs) != bool(classes):
            why = (
                "another folder is used for testing"
                if "test" in splits
                else f"it has {'no' if classes else 'its own'} labels"
            )
            notes.append(f"{folder / name} is not used: {why}")
        else:
            splits["test"] = found
    files = [file for one in splits.values() for file in one.files]
    return Source(str(folder), f"folders of splits with {kind}", splits, classes, files, (*notes, *_sentences(ignored)))


def _samples(
    folder: Path, ignored: Ignored, known: Sequence[str] | None = None
) -> tuple[Samples, tuple[str, ...], str]:
    """Return the images in a folder, the names of their classes if it has class folders, and what it is in words.

    known: the classes that the folder may have; its labels are their positions. None if any are allowed.
    """
    outside = _directly_in(folder)
    inside = {name: found for name in folder_names(folder) if (found := images_in(folder / name, ignored))}
    if len(inside) < 2 or len(outside) >= sum(map(len, inside.values())):
        files = images_in(folder, {})
        if not files:
            raise FileNotFoundError(f"{folder} holds no image")
        kind = "images" if outside and not inside else "images in subfolders"
        return samples_from_files(files, [-1] * len(files), str(folder)), (), kind
    classes = tuple(known or inside)
    for name in inside:
        if name not in classes:
            raise ValueError(f"{folder / name} must be a class of the training images too, which have {len(classes)}")
    files = [file for found in inside.values() for file in found]
    labels = np.repeat([classes.index(name) for name in inside], [len(found) for found in inside.values()])
    ignored.setdefault(OUTSIDE, []).extend(outside)
    _note_others(folder, ignored)
    return samples_from_files(files, labels, str(folder)), classes, "class folders"


def _directly_in(folder: Path) -> list[str]:
    """Return the paths of the images in the folder itself."""
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries if of_an_image(entry.name) and entry.is_file()]


def _note_others(folder: Path, ignored: Ignored) -> None:
    """Add what lies directly in a folder of class folders and is neither a class nor an image."""
    for name in sorted(set(os.listdir(folder)) - set(folder_names(folder))):
        if not of_an_image(name):
            reason = HIDDEN if name.startswith(".") or (folder / name).is_dir() else NO_IMAGE
            ignored.setdefault(reason, []).append(str(folder / name))


def _sentences(ignored: Ignored) -> tuple[str, ...]:
    """Return a sentence for each reason why something is ignored."""
    found = {reason: paths for reason, paths in ignored.items() if paths}
    return tuple(f"ignored: {len(paths):,} {reason}, such as {min(paths)}" for reason, paths in found.items())
