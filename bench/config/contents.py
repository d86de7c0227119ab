"""Your own images in place of a dataset: what was found in them, which a recipe then stores."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from twoview.loaders.datasets import Dataset, Samples, Split
from twoview.loaders.limits import CLASSES
from twoview.methods.settings import Settings, Text

LONGEST_NAME = 40  # maximum number of characters of a path in the name of own data


def _are_few_enough(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names. Raises ValueError if there are more classes than allowed."""
    if fault := CLASSES.fault(len(classes)):
        raise ValueError(fault)
    return classes


ClassNames = Annotated[tuple[Text, ...], AfterValidator(_are_few_enough)]


class Contents(Settings):
    """The `[contents]` table: what `twoview train` found in the recipe's `data`. It is not written by hand."""

    name: Text  # own:NAME-HASH, which stands for the dataset in records and tables
    classes: ClassNames  # names of the classes, in the order of the labels; empty if there are no labels
    images: dict[str, int]  # split -> number of images
    hashes: dict[str, Text]  # split -> XXH64 in hex, which identifies the images and labels of its beton file
    held_out: bool  # whether the test images are a part of the images in `data`, chosen class by class
    mean: tuple[float, float, float]  # of the RGB channels of the training images, in [0, 1]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class OwnData(Dataset):
    """Your own images as a dataset. data, test_data: where they are, see `Recipe`. contents: what was found there."""

    data: str
    test_data: str | None
    contents: Contents


def own_data(data: str, test_data: str | None, contents: Contents) -> OwnData:
    """Return the images at `data` as a dataset."""

    def read(_: object, split: Split) -> Samples:
        raise ValueError(f"{contents.name} has no samples in the data root: its images are at {data}")

    return OwnData(
        name=contents.name,
        count=len(contents.classes),
        names=lambda: contents.classes,
        sizes=contents.images,
        mean=contents.mean,
        std=contents.std,
        statistics="measured on the training images",
        layout=(),
        license="not stated",
        origin="images of your own",
        read=read,
        data=data,
        test_data=test_data,
        contents=contents,
    )


def own_name(data: str) -> str:
    """Return a name for the images at a path, from its last part that is not a pattern: letters, digits, _ and -."""
    parts = [part for part in Path(data).parts if not set(part) & set("{}*?[]")]
    stem = Path(parts[-1]).stem if parts else ""
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")[:LONGEST_NAME] or "images"
