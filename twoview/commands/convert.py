"""The command `convert`: a dataset as a `.beton` file."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from twoview.bench.runtime.escapes import on_one_line
from twoview.commands.numbers import at_least, at_most
from twoview.commands.output import show
from twoview.conversion import convert
from twoview.loaders.limits import THREADS


def run(
    source: Positional[str],
    dest: Positional[Path],
    split: Literal["train", "test", "unlabeled"] = "train",
    data_root: Path | None = None,
    max_resolution: int | None = None,
    quality: int = 90,
    skip_damaged: bool = False,
    threads: int = 0,
    force: bool = False,
    json: bool = False,
) -> None:
    """Write a dataset, or a folder with one subfolder of images per class, to a .beton file. JPEGs stay as they are.

    Args:
        source: a name from `twoview list datasets`, or a folder.
        dest: file to write; it is written atomically.
        split: which split of a named dataset.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        max_resolution: longest side to store, in pixels; larger images are resized.
        quality: quality of JPEGs that are resized, from 1 to 95.
        skip_damaged: skip images that cannot be read, and list them, instead of stopping at the first.
        threads: number of threads that read and encode; 0 means one per core.
        force: overwrite dest.
        json: print the result as JSON.
    """
    at_least(0, threads=threads)
    at_most(THREADS, threads=threads)
    made = convert(
        source,
        dest,
        split=split,
        data_root=data_root,
        max_resolution=max_resolution,
        quality=quality,
        skip_damaged=skip_damaged,
        threads=threads,
        force=force,
    )
    size = dest.stat().st_size
    result = {
        "path": str(dest),
        "samples": made.samples,
        "bytes": size,
        "source": made.source,
        "found": {"images": made.images, "classes": made.classes},
        "skipped": list(made.left_out),
    }
    lines = [
        f"{dest}: {made.samples:,} samples, {size:,} bytes, from {made.source}",
        f"found {made.images:,} images of {made.classes:,} classes",
        *(f"skipped: {sentence}" for sentence in made.left_out),
    ]
    show(result, json, "\n".join(map(on_one_line, lines)))
