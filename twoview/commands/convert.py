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
    background: Literal["white", "black"] = "white",
    on_error: Literal["raise", "skip"] = "raise",
    threads: int = 0,
    force: bool = False,
    json: bool = False,
) -> None:
    """Write a dataset, or images of your own, to a .beton file. JPEGs stay as they are.

    Args:
        source: a name from `twoview list datasets`, or a folder of images, a list of files, Parquet files, tar shards,
            or a folder that the library `datasets` saved.
        dest: file to write; it is written atomically.
        split: which split to write.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        max_resolution: longest side to store, in pixels; larger images are resized.
        quality: quality of JPEGs that are written, from 1 to 95.
        background: color on which transparent pixels are laid.
        on_error: stop at the first image that cannot be read, or skip such images and list them.
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
        background=background,
        on_error=on_error,
        threads=threads,
        force=force,
    )
    size = dest.stat().st_size
    result = {
        "path": str(dest),
        "samples": made.samples,
        "bytes": size,
        "source": made.source,
        "found": {"images": made.images, "classes": made.classes, "text": made.found},
        "ignored": list(made.ignored),
        "rule": made.rule,
        "skipped": list(made.left_out),
    }
    lines = [
        made.found,
        *made.ignored,
        made.rule,
        *(f"skipped: {sentence}" for sentence in made.left_out),
        f"{dest}: {made.samples:,} samples of {made.images:,} {split} images, {size:,} bytes",
    ]
    show(result, json, "\n".join(map(on_one_line, lines)))
