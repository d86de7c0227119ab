"""What is declared of a dataset, and the data root that it is looked for in."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twoview.loaders.datasets.archives import Archive, obtain
from twoview.loaders.datasets.samples import Samples

Split = str  # "train" or "test", or what else a dataset's `sizes` names
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's weights
NEEDS_A_ROOT = "needs a data root: name one with --data-root or TWOVIEW_DATA"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named dataset: its classes and channel statistics (of values in [0, 1]), and how to read its splits.

    count: of classes, None where only the data tell. names: their names, None where only the data tell.
    sizes: images of each split, None where only the data tell. layout: what must be in the data root.
    read: (data root or None, split) -> Samples; FileNotFoundError where something is missing; downloads nothing.
    get: (data root) -> None; downloads, checks and unpacks, whole or not at all. None where that is left to the user.
    by_hand: what the user has to do, in words or commands with ROOT for the data root; before `get`, if there is one.
    small: got by itself when it is first asked for. statistics: where mean and std come from.
    """

    name: str
    count: int | None
    names: Callable[[], Sequence[str]] | None = None
    sizes: Mapping[Split, int | None]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    statistics: str = "ImageNet's, as torchvision's weights have them"
    layout: tuple[str, ...]
    license: str
    origin: str
    read: Callable[[Path | None, Split], Samples]
    get: Callable[[Path | None], None] | None = None
    by_hand: str = ""
    small: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, by label; their numbers where no name is known without the data."""
        if self.names:
            return tuple(self.names())
        count = self.count if self.count is not None else int(self.find(data_root(), "train").labels.max()) + 1
        return tuple(str(label) for label in range(count))

    def check(self, split: Split) -> None:
        """ValueError for a split that the dataset does not have."""
        if split not in self.sizes:
            raise ValueError(f"{self.name} has no split {split!r}: it has {', '.join(self.sizes)}")

    def find(self, root: Path | None, split: Split) -> Samples:
        """The samples of a split; a small dataset is downloaded where it is missing.

        FileNotFoundError, naming what is missing, where it is neither there nor can be had.
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
    """The folder of the user's datasets: --data-root, or else TWOVIEW_DATA, or none.

    FileNotFoundError, naming the folder and where the name came from, if it is not there.
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
    """The data root has nothing of a dataset, or of one of its parts; not: it lacks something within them."""


def in_root(root: Path | None, path: str, name: str) -> Path:
    """root / path. NotInRoot, saying how to get it, if there is no data root or no such path."""
    if root is None:
        raise NotInRoot(f"{name} {NEEDS_A_ROOT}")
    if not (root / path).exists():
        raise NotInRoot(f"{root / path} is not there: `twoview data {name}` says how to get it")
    return root / path


def getter(name: str, folder: str, *archives: Archive) -> Callable[[Path | None], None]:
    """The `get` of a dataset whose archives unpack into `folder` of the data root."""

    def get(root: Path | None) -> None:
        if root is None:
            raise FileNotFoundError(f"{name} {NEEDS_A_ROOT}")
        for archive in archives:
            obtain(archive, root / folder)

    return get
