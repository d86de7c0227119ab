"""Writing images to a `.beton` file (FFCV's format), from a script or by the command `convert`."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from twoview.bench.data import betons
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.runtime.locks import alone
from twoview.loaders import checks, datasets
from twoview.loaders.limits import THREADS
from twoview.loaders.shrink import shrunk


@dataclass(frozen=True)
class Converted:
    """A beton file that `convert` made.

    path: the file. source: where its images came from. images: number of images found there. classes: number of
    distinct labels among them. left_out: a sentence for each image that could not be read and was skipped.
    """

    path: Path
    source: str
    images: int
    classes: int
    left_out: tuple[str, ...]

    @property
    def samples(self) -> int:
        """The number of images in the file."""
        return self.images - len(self.left_out)


def convert(
    source: str | PathLike[str],
    dest: str | PathLike[str],
    *,
    split: datasets.Split = "train",
    data_root: str | PathLike[str] | None = None,
    max_resolution: int | None = None,
    quality: int = 90,
    skip_damaged: bool = False,
    threads: int = 0,
    force: bool = False,
) -> Converted:
    """Write a named dataset, or a folder with one subfolder of images per class, to a beton file.

    JPEG files keep their bytes, unless they are larger than `max_resolution`.

    source: a name from `twoview list datasets`, or a folder.
    dest: the file to write; it is written atomically.
    split: the split of a named dataset.
    data_root: the folder of your datasets; by default the environment variable `TWOVIEW_DATA`.
    max_resolution: the longest side to store, in pixels; larger images are resized, JPEGs stay JPEGs.
    quality: the quality of those JPEGs, 1 to 95.
    skip_damaged: skip images that cannot be read, instead of raising an error.
    threads: number of threads that read and encode; 0 means one per core.
    force: overwrite `dest`.

    Raises FileExistsError if `dest` exists and `force` is not set, and ValueError for an image that cannot be read.
    """
    path = Path(dest)
    THREADS.check(checks.whole("threads", threads, 0), "threads")
    if not str(source):
        raise ValueError("source must be the name of a dataset, or a folder, got ''")
    with alone(path, "the file"):
        if path.exists() and not force:
            raise FileExistsError(f"{path} already exists: to overwrite it, use --force (force=True in Python)")
        named = None if Path(source).is_dir() else datasets.dataset(str(source))
        root = datasets.data_root(None if data_root is None else Path(data_root))
        samples = named.find(root, split) if named else datasets.image_folder(Path(source))
        if max_resolution is not None:
            samples = shrunk(samples, max_resolution, quality)
        skipped: dict[int, str] | None = {} if skip_damaged else None
        origin = (named.name, split) if named else (None, None)
        betons.convert(samples, path, path.name, threads or cpu_count(), skipped, *origin)
    classes = int(np.unique(samples.labels[samples.labels >= 0]).size)  # -1 is the label of an image without one
    return Converted(path, samples.source, len(samples), classes, tuple((skipped or {}).values()))
