"""Images at a path that is not a known dataset: their splits, their classes, and whether they have changed."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from twoview.loaders.checksum import xxh64_of
from twoview.loaders.datasets.samples import Samples

# What folders and files of a split are called -> the split. Of several for testing, the first with labels is taken.
SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "test",
    "valid": "test",
    "validation": "test",
}
SHOWN = 10  # maximum number of class names that a sentence gives


@dataclass(frozen=True)
class Source:
    """Images at a path.

    path: where they are. kind: what is there, in words, such as "class folders".
    splits: "train", and "test" if there are images for testing -> samples; the label of an image without one is -1.
    classes: the names of the classes, in the order of the labels; empty if there are no labels.
    files: the files whose sizes and times of change tell whether the images have changed.
    ignored: a sentence about each kind of thing at the path that is not used.
    """

    path: str
    kind: str
    splits: Mapping[str, Samples]
    classes: tuple[str, ...]
    files: Sequence[str]
    ignored: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return a hash (XXH64, in hex) of names, labels, sizes and times of change: whether anything has changed."""
        status = np.array([(one.st_size, one.st_mtime_ns) for one in map(os.stat, self.files)], "<i8")
        names = {split: samples.listing() for split, samples in self.splits.items()}
        labels = [samples.labels.astype("<i8") for samples in self.splits.values()]
        return f"{xxh64_of(json.dumps([self.kind, names, self.classes]).encode(), status, *labels):016x}"

    def name(self, split: str, index: int) -> str:
        """Return what an image is called at the path: its file, SHARD.tar/MEMBER or FILE.parquet/ROW, as in the folder.

        Bytes that are not UTF-8 are escaped.
        """
        name = self.splits[split].name(index).removeprefix(self._folder)
        return os.fsencode(name).decode("utf-8", "backslashreplace")

    @cached_property
    def _folder(self) -> str:
        """The folder with the images, ending in a slash: the path, or what holds the file at the path."""
        path = Path(self.path)
        return os.path.join(path if path.is_dir() else path.parent, "")

    def text(self) -> str:
        """Return in one sentence what was found: the kind, the splits with their images, and the classes."""
        counts = " and ".join(f"{len(samples):,} {split} images" for split, samples in self.splits.items())
        if not self.classes:
            return f"{self.path}: {self.kind}, {counts} without labels"
        return f"{self.path}: {self.kind}, {counts} of {classes_in_words(self.classes)}"


def classes_in_words(classes: Sequence[str]) -> str:
    """Return the number of classes and the names of the first of them."""
    more = ", ..." if len(classes) > SHOWN else ""
    return f"{len(classes):,} classes ({', '.join(classes[:SHOWN])}{more})"


def numbered(labels: Sequence[int] | np.ndarray, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the classes of integer labels: the given ones, or else the numbers as text.

    Raises ValueError if a label has no name. -1 is the label of an image without one.
    """
    most = int(np.max(labels, initial=-1))
    if most < 0:
        return ()
    if names is None:
        return tuple(map(str, range(most + 1)))
    if most >= len(names):
        raise ValueError(f"labels must be below {len(names)}, the number of class names, got {most}")
    return tuple(names)


def by_split(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return split -> files, if the name of each file has the name of one split, as in `train-00000-of-00002.parquet`.

    Otherwise all are of the split train, which comes first.
    """
    files = list(files)
    found: dict[str, list[Path]] = {}
    for file in files:
        words = {SPLITS[word] for word in re.split(r"[^a-z]+", file.stem.lower()) if word in SPLITS}
        if len(words) == 1:
            found.setdefault(words.pop(), []).append(file)
    if "train" not in found or sum(map(len, found.values())) < len(files):
        return {"train": files}
    return {split: found[split] for split in ("train", "test") if split in found}
