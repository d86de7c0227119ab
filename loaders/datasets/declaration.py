"""The declaration of a dataset, and the data root: the folder of the user's datasets, in which it is looked for."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twoview.loaders.datasets.archives import Archive, obtain
from twoview.loaders.datasets.samples import Samples

Split = str  # "train", "test", or another name in a dataset's `sizes`
# Mean and standard deviation of the RGB channels, in [0, 1], as torchvision's pretrained weights expect them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NEEDS_A_ROOT = (
    "needs a data root, the folder of your datasets: set it with --data-root or the environment variable TWOVIEW_DATA"
)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named dataset: its classes and channel statistics, and how to read its splits.

    count: number of classes. names: returns the class names. Both are None if they are only known from the data. sizes:
    number of images in each split, None if it is only known from the data.
    mean, std: of the RGB channels, with values in [0, 1]. statistics: where mean and std come from.
    layout: paths that must be in the data root. origin: where the dataset is published.
    read: (data root or None, split) -> Samples. Downloads nothing; raises FileNotFoundError if something is missing.
    get: (data root) -> None. Downloads, checks and unpacks the dataset atomically. None if the user has to do it.
    by_hand: what the user has to do, in words or commands with ROOT for the data root; before `get`, if there is one.
    small: whether the dataset is downloaded without being asked for, when it is first used.
    """

    name: str
    count: int | None
    names: Callable[[], Sequence[str]] | None = None
    sizes: Mapping[Split, int | None]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    statistics: str = "ImageNet's, as torchvision's pretrained weights expect them"
    layout: tuple[str, ...]
    license: str
    origin: str
    read: Callable[[Path | None, Split], Samples]
    get: Callable[[Path | None], None] | None = None
    by_hand: str = ""
    small: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels; if names are only known from the data, the labels as text."""
        if self.names:
            return tuple(self.names())
        count = self.count if self.count is not None else int(self.find(data_root(), "train").labels.max()) + 1
        return tuple(str(label) for label in range(count))

    def check(self, split: Split) -> None:
        """Raise ValueError for a split that the dataset does not have."""
        if split not in self.sizes:
            raise ValueError(f"{self.name} has no split {split!r}: its splits are {', '.join(self.sizes)}")

    def find(self, root: Path | None, split: Split) -> Samples:
        """Return the samples of a split; a small dataset is downloaded if it is missing.

        Raises FileNotFoundError, naming what is missing, if it is not found and cannot be downloaded.
        """
        self.check(split)
        try:
            return self.read(root, split)
        except FileNotFoundError:
            if not (self.small and self.get):
                raise
        self.get(root)
        samples = self.read(root, split)
        return replace(samples, source=f"{samples.source}, downloaded")


def data_root(given: Path | None = None) -> Path | None:
    """Return the folder of the user's datasets: `given` (--data-root), or else the one in TWOVIEW_DATA, or None.

    Raises FileNotFoundError, with the folder and where its name came from, if it does not exist.
    """
    origin = "--data-root" if given else "TWOVIEW_DATA"
    named = given or os.environ.get("TWOVIEW_DATA")
    if not named:
        return None
    root = Path(named).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"the data root {root} named by {origin} is not a folder")
    return root


class NotInRoot(FileNotFoundError):
    """The data root does not have a dataset, or one of its main parts, at all.

    A dataset that exists but is incomplete raises a plain FileNotFoundError.
    """


def in_root(root: Path | None, path: str, name: str) -> Path:
    """Return root / path. If there is no data root or no such path, raise NotInRoot and say how to get the dataset."""
    if root is None:
        raise NotInRoot(f"{name} {NEEDS_A_ROOT}")
    if not (root / path).exists():
        raise NotInRoot(f"{root / path} does not exist: `twoview data {name}` says how to get it")
    return root / path


def getter(name: str, folder: str, *archives: Archive) -> Callable[[Path | None], None]:
    """Return the `Dataset.get` of a dataset whose archives unpack into `folder` of the data root."""

    def get(root: Path | None) -> None:
        if root is None:
            raise FileNotFoundError(f"{name} {NEEDS_A_ROOT}")
        for archive in archives:
            obtain(archive, root / folder)

    return get
