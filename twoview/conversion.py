"""Writing images to a `.beton` file (FFCV's format), from a script or by the command `convert`."""

from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from twoview.bench.data.conversion import convert as write
from twoview.bench.data.conversion import dataset_origin, is_beton, source_origin
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.runtime.locks import to_write
from twoview.loaders import checks, datasets
from twoview.loaders.limits import THREADS
from twoview.loaders.prepared import prepared
from twoview.loaders.sources import TAKEN, Source, open_source
from twoview.loaders.storage import PLAIN, Storage


@dataclass(frozen=True)
class Converted:
    """A beton file that `convert` made.

    path: the file. source: where its images came from. found: a sentence about what was found there. rule: a sentence
    about how images other than JPEGs are stored. images: number of images of the split. classes: number of distinct
    labels among them. ignored: a sentence for each kind of thing that is not used. left_out: a sentence for each image
    that could not be read and was skipped.
    """

    path: Path
    source: str
    found: str
    rule: str
    images: int
    classes: int
    ignored: tuple[str, ...]
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
    background: Literal["white", "black"] = "white",
    on_error: Literal["raise", "skip"] = "raise",
    threads: int = 0,
    force: bool = False,
) -> Converted:
    """Write a named dataset, or images of your own, to a beton file.

    JPEG files keep their bytes, unless they are larger than `max_resolution`. Images of other formats are stored as
    pixels; of your own images, those with more than 256 x 256 pixels become JPEGs.

    source: a name from `twoview list datasets`, or a path: a folder of images, a list of files, Parquet files, tar
    shards, or a folder that the library `datasets` saved, see docs/your-data.md.
    dest: the file to write; it is written atomically.
    split: the split to write.
    data_root: the folder of your datasets; by default the environment variable `TWOVIEW_DATA`.
    max_resolution: the longest side to store, in pixels; larger images are resized, JPEGs stay JPEGs.
    quality: the quality of JPEGs that are written, 1 to 95.
    background: the color on which transparent pixels are laid.
    on_error: "skip" skips images that cannot be read, instead of raising an error.
    threads: number of threads that read and encode; 0 means one per core.
    force: overwrite `dest`.

    Raises FileExistsError if `dest` exists and `force` is not set, and ValueError for an image that cannot be read, or
    a split that the source does not have.
    """
    path = Path(dest)
    THREADS.check(checks.whole("threads", threads, 0), "threads")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be raise or skip, got {on_error!r}")
    if not str(source):
        raise ValueError("source must be the name of a dataset, or a path, got ''")
    with to_write(path, force):
        root = datasets.data_root(None if data_root is None else Path(data_root))
        samples, found, ignored, origin = _opened(str(source), split, root)
        storage = Storage(background, max_resolution, quality, compress=str(origin["dataset"]).startswith("own:"))
        if storage != PLAIN:
            origin |= {"storage": asdict(storage)}
        samples = prepared(samples, storage)
        skipped: dict[int, str] | None = {} if on_error == "skip" else None
        write(samples, path, path.name, threads or cpu_count(), skipped, origin)
    classes = int(np.unique(samples.labels[samples.labels >= 0]).size)  # -1 is the label of an image without one
    left_out = tuple((skipped or {}).values())
    return Converted(path, samples.source, found, storage.rule(), len(samples), classes, ignored, left_out)


def _opened(
    source: str, split: datasets.Split, root: Path | None
) -> tuple[datasets.Samples, str, tuple[str, ...], dict[str, Any]]:
    """Return the samples of a split, a sentence about them, sentences about what is ignored, and what a beton says."""
    known = source in datasets.DATASETS or source.partition(":")[0] in datasets.LIBRARIES
    if known and not Path(source).exists():
        named = datasets.dataset(source)
        samples = named.find(root, split)
        return samples, f"{source}: {len(samples):,} {split} images", (), dataset_origin(named, split)
    if is_beton(source):
        raise ValueError(f"{source} must be {TAKEN}; a .beton file needs no conversion, `train --data` takes it")
    try:
        opened: Source = open_source(source)
    except FileNotFoundError as error:
        if Path(source).name != source or Path(source).exists():
            raise
        datasets.dataset(source)  # raises an error with the names of datasets that are similar
        raise error
    if split not in opened.splits:
        raise ValueError(f"{source} has no split {split!r}: its splits are {', '.join(opened.splits)}")
    return opened.splits[split], opened.text(), opened.ignored, source_origin(opened, split)
