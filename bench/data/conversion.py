"""Writing samples to a beton file (FFCV's format) with a progress bar, and what the file says about itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twoview.bench.config.contents import own_name
from twoview.bench.runtime.escapes import on_one_line
from twoview.bench.runtime.progress import console, progress
from twoview.loaders import beton, datasets
from twoview.loaders.names import printable
from twoview.loaders.sources import SUFFIXES, Source

NAMED = 1000  # maximum number of names of skipped images that a file keeps


def convert(
    samples: datasets.Samples,
    path: Path,
    what: str,
    threads: int,
    skipped: dict[int, str] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write samples to a beton file, with a progress bar.

    what: name of the samples for the progress bar. skipped: see `twoview.loaders.beton.write`. origin: what the file
    says about where its samples come from, such as the name of their dataset.
    """

    # The file's metadata. It is made at the end, when it is known which images were skipped.
    def about() -> dict[str, Any]:
        names = [printable(samples.relative[number]) if samples.files else str(number) for number in skipped or ()]
        about = {"listing": samples.listing(), "left_out": len(names), "left_out_names": names[:NAMED]}
        return {**(origin or {}), **about, "left_out_numbers": [*(skipped or ())]}

    with progress(f"convert {what}", len(samples)) as advance:
        for _ in beton.write(path, len(samples), samples.stored, threads, skipped, about):
            advance()


def say(text: str) -> None:
    """Print a text on one line, with control characters escaped."""
    console.print(on_one_line(text), markup=False, highlight=False, soft_wrap=True)


def dataset_origin(dataset: datasets.Dataset, split: datasets.Split) -> dict[str, Any]:
    """Return what a beton says about a split of a dataset. Names of classes only known from the data are omitted."""
    return {"dataset": dataset.name, "split": split, "classes": list(dataset.names()) if dataset.names else None}


def source_origin(source: Source, split: datasets.Split) -> dict[str, Any]:
    """Return what a beton says about your own images."""
    return {
        "dataset": f"own:{own_name(source.path)}",
        "split": split,
        "source": source.path,
        "classes": list(source.classes),
    }


def is_beton(path: str) -> bool:
    """Return whether a path is a file that is opened as a beton."""
    return Path(path).is_file() and Path(path).suffix.lower() not in SUFFIXES
