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
from twoview.loaders.limits import CLASSES
from twoview.loaders.names import printable

# What folders and files of a split are called, those to prefer first.
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")
WHOLE = re.compile(r"-?[0-9]+")
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
        return printable(self.splits[split].name(index).removeprefix(self._folder))

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
        without = sum(int((samples.labels < 0).sum()) for samples in self.splits.values())
        some = f", {without:,} of them without a label" if without else ""
        return f"{self.path}: {self.kind}, {counts} of {classes_in_words(self.classes)}{some}"


def classes_in_words(classes: Sequence[str]) -> str:
    """Return the number of classes and the names of the first of them."""
    more = ", ..." if len(classes) > SHOWN else ""
    return f"{len(classes):,} classes ({', '.join(classes[:SHOWN])}{more})"


def numbered(labels: np.ndarray, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the classes of integer labels: the given ones, or else the numbers as text.

    labels: int64 (N,), -1 for an image without a label. Raises ValueError for a label that is lower, that has no name,
    or that is above `limits.CLASSES`.
    """
    least, most = int(labels.min(initial=-1)), int(labels.max(initial=-1))
    if least < -1:
        raise ValueError(f"labels must be 0 or more, or -1 for none, got {least}")
    if most < 0:
        return ()
    if names is None:
        CLASSES.check_setting(most, "the largest label")
        return tuple(map(str, range(most + 1)))
    if most >= len(names):
        raise ValueError(f"labels must be below {len(names)}, the number of class names, got {most}")
    return tuple(names)


def labeled(
    given: Mapping[str, np.ndarray | Sequence[str | None]], names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the labels of each split as class numbers, int64 (N,), and the names of the classes.

    given: split -> labels as integers, or as texts, of which None, "" and "-1" mean that there is none. Texts that are
    all whole numbers are the numbers; others are numbered in sorted order. names: of the classes of integers.
    Raises ValueError as `numbered` does.
    """
    numbers = {split: some for split, some in given.items() if isinstance(some, np.ndarray)}
    if len(numbers) == len(given):
        return numbers, numbered(np.concatenate(list(numbers.values())), names)
    texts = {split: ["" if one is None else str(one) for one in some] for split, some in given.items()}
    found = sorted({text for some in texts.values() for text in some} - {"", "-1"})
    if all(WHOLE.fullmatch(text) for text in found):
        of = {text: int(text) for text in found}
        classes = numbered(np.array([*of.values(), -1], object if found and max(map(len, found)) > 18 else np.int64))
    else:
        of, classes = {text: number for number, text in enumerate(found)}, tuple(found)
    of |= {"": -1, "-1": -1}
    return {split: np.array([of[text] for text in some], np.int64) for split, some in texts.items()}, classes


def by_split(files: Iterable[Path], root: Path) -> dict[str, list[Path]]:
    """Return name of a split -> files, as in `train-00000-of-00002.parquet` or `val/000.tar` below `root`.

    The name is the last part of a file's path that has one. If not every file has one, all are of the split train.
    """
    files = list(files)
    found: dict[str, list[Path]] = {}
    for file in files:
        below = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
        for part in reversed((*below.parts[:-1], below.stem)):
            words = set(re.split(r"[^a-z]+", part.lower())) & {*TRAIN, *TEST}
            if len(words) == 1:
                found.setdefault(words.pop(), []).append(file)
                break
    if not found.keys() & {*TRAIN} or sum(map(len, found.values())) < len(files):
        return {"train": files}
    return found


def choose(has_labels: Mapping[str, bool]) -> tuple[dict[str, str], list[str]]:
    """Return split -> name of the part to use for it, and a sentence for each part that is not used.

    has_labels: name of a part, such as "validation" -> whether it has labels. The first part for testing is used that
    has labels if the training images have them.
    """
    order = {word: number for number, word in enumerate((*TRAIN, *TEST))}
    names = sorted((name for name in has_labels if name.lower() in order), key=lambda name: order[name.lower()])
    train = next(name for name in names if name.lower() in TRAIN)
    tests = [name for name in names if name.lower() in TEST]
    test = next((name for name in tests if has_labels[name] == has_labels[train]), None)
    used = {"train": train} | ({"test": test} if test else {})
    why = {name: ": it has no labels" for name in tests if has_labels[train] and not has_labels[name]}
    return used, [
        f"the split {name} is not used{why.get(name, '')}" for name in has_labels if name not in used.values()
    ]
