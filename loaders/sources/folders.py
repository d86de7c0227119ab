"""A folder of images: class folders, folders of splits, or images without labels, in one folder or in many."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
from twoview.loaders.sources.source import TEST, TRAIN, Source, choose

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
    words = [name.lower() for name in names]
    if not _directly_in(folder) and {*words} & {*TRAIN} and {*words} <= {*TRAIN, *TEST}:
        return _of_splits(folder, names, ignored)
    found = _look(folder, ignored)
    classes = found.classes()
    samples = _samples(found, classes)
    return Source(str(folder), found.kind(classes), {"train": samples}, classes, samples.files, _sentences(ignored))


class _Found(NamedTuple):
    """What a folder holds. outside: images directly in it. inside: name of a subfolder -> images in it and below."""

    folder: Path
    outside: list[str]
    inside: dict[str, list[str]]

    def classes(self, known: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the names of the subfolders if they are classes, else nothing. known: classes of the training images.

        Raises FileNotFoundError if there is no image.
        """
        count = sum(map(len, self.inside.values()))
        if not (count or self.outside):
            raise FileNotFoundError(f"{self.folder} holds no image")
        enough = len(self.inside) > 1 or {*self.inside} <= {*known}
        return tuple(self.inside) if enough and count > len(self.outside) else ()

    def kind(self, classes: Sequence[str]) -> str:
        """Return in words what the folder holds."""
        return "class folders" if classes else "images in subfolders" if self.inside else "images"


def _look(folder: Path, ignored: Ignored) -> _Found:
    """Look for images in a folder and below."""
    inside = {name: images for name in folder_names(folder) if (images := images_in(folder / name, ignored))}
    found = _Found(folder, _directly_in(folder), inside)
    if found.outside and found.inside and found.classes():
        ignored.setdefault(OUTSIDE, []).extend(found.outside)
    _note_others(folder, ignored)
    return found


def _of_splits(folder: Path, names: Sequence[str], ignored: Ignored) -> Source:
    """Return the images in folders of splits."""
    found = {name: _look(folder / name, ignored) for name in names}
    train = next(name for word in TRAIN for name in names if name.lower() == word)
    classes = found[train].classes()
    used, notes = choose({name: bool(one.classes(classes)) for name, one in found.items()})
    splits = {split: _samples(found[name], classes) for split, name in used.items()}
    files = [file for one in splits.values() for file in one.files]
    kind = f"folders of splits with {found[train].kind(classes)}"
    return Source(str(folder), kind, splits, classes, files, (*notes, *_sentences(ignored)))


def _samples(found: _Found, classes: tuple[str, ...]) -> Samples:
    """Return the images of a folder. classes: the names of its classes; empty if the images have no labels."""
    where = str(found.folder)
    if not classes:
        files = images_in(found.folder)
        return samples_from_files(files, np.full(len(files), -1), where)
    for name in found.inside:
        if name not in classes:
            raise ValueError(f"{found.folder / name} must be a class of the training images too, of {len(classes)}")
    labels = np.repeat([classes.index(name) for name in found.inside], [len(one) for one in found.inside.values()])
    return samples_from_files([file for one in found.inside.values() for file in one], labels, where)


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
