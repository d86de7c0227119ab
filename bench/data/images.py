"""All images at a path, split by split, each with the name that it has there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twoview.bench.data import inspection, own
from twoview.bench.data.own import Damaged
from twoview.bench.runtime.cores import cpu_count
from twoview.loaders.beton import Beton
from twoview.loaders.sources import Source


@dataclass(frozen=True)
class Part:
    """The images of one split: their beton.

    name: number of a sample -> its name at the path. left_out: the names of the images that could not be read.
    """

    split: str
    file: Beton
    name: Callable[[int], str]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Images:
    """All images at a path.

    parts: a part for each split, that of the split train first. classes: their names; empty without labels.
    """

    path: str
    parts: tuple[Part, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return sum(len(part.file) for part in self.parts)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the images that could not be read."""
        return tuple(name for part in self.parts for name in part.left_out)

    def find(self, row: int) -> tuple[Beton, int]:
        """Return the beton of an image and its number there. row: its number among all images."""
        for part in self.parts:
            if row < len(part.file):
                return part.file, row
            row -= len(part.file)
        raise IndexError(f"there are {len(self):,} images")


def images_at(path: str, folder: Path, damaged: Damaged) -> Images:
    """Open all images at a path, in any form that `train --data` takes, converted to betons in `folder`.

    damaged: "skip" leaves out the images that cannot be read; for that, all images of a beton are decoded once.
    Raises FileNotFoundError or ValueError, naming the path or the file.
    """
    if not path:
        raise ValueError("the path of the images must be that of a folder or a file, got ''")
    files, classes, source = own.betons_at(path, folder, damaged)
    if source is None:
        return Images(path, (_of_beton(files["train"], damaged),), classes)
    return Images(path, tuple(_of_source(source, split, file) for split, file in files.items()), classes)


def _of_beton(file: Beton, damaged: Damaged) -> Part:
    """Return the images of a beton, which are called by their numbers."""
    broken = sorted(inspection.verify(file, cpu_count())["damaged"]) if damaged == "skip" else []
    if not broken:
        return Part("train", file, str, ())
    kept = np.setdiff1d(np.arange(len(file)), broken)
    if not len(kept):
        raise ValueError(f"{file.path}: none of {len(file)} samples can be decoded")
    return Part("train", file.only(kept), lambda sample: str(kept[sample]), tuple(map(str, broken)))


def _of_source(source: Source, split: str, file: Beton) -> Part:
    """Return the images of a source's split from the beton that was made of them."""
    broken, count = file.about.get("left_out_numbers", []), len(source.splits[split])
    kept = np.setdiff1d(np.arange(count), broken)
    if len(kept) != len(file):
        raise ValueError(f"{file.path} must hold {len(kept):,} of {count:,} images, got {len(file):,}: delete it")
    names = tuple(source.name(split, int(number)) for number in broken)
    return Part(split, file, lambda sample: source.name(split, int(kept[sample])), names)
