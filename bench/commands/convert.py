"""Images into a beton file."""

from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import Positional

from bench import betons
from bench.commands.numbers import at_least, at_most
from bench.commands.output import show
from bench.cores import cpu_count
from bench.escapes import on_one_line
from bench.locks import alone
from loaders import datasets
from loaders.limits import THREADS
from loaders.shrink import shrunk


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
    """Write a dataset, or a folder of class folders of images, to a .beton file. JPEG files keep their bytes.

    Args:
        source: a name from `twoview list datasets`, or a folder.
        dest: the file to write; it appears whole or not at all.
        split: of a named dataset.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        max_resolution: longest side to store, in pixels; larger images are resized.
        quality: of the JPEGs that are resized, 1 to 95.
        skip_damaged: leave out images that cannot be read, and say which, instead of ending there.
        threads: that read and encode; 0 means every core.
        force: overwrite dest.
        json: print the result as JSON.
    """
    at_least(0, threads=threads)
    at_most(THREADS, threads=threads)
    if not source:
        raise ValueError("source must be the name of a dataset, or a folder, got ''")
    with alone(dest, "the file"):
        if dest.exists() and not force:
            raise FileExistsError(f"{dest} exists: overwrite it with --force")
        named = None if Path(source).is_dir() else datasets.dataset(source)
        samples = named.find(datasets.data_root(data_root), split) if named else datasets.image_folder(Path(source))
        if max_resolution is not None:
            samples = shrunk(samples, max_resolution, quality)
        skipped: dict[int, str] | None = {} if skip_damaged else None
        origin = (named.name, split) if named else (None, None)
        betons.convert(samples, dest, dest.name, threads or cpu_count(), skipped, *origin)
    sentences, size = list((skipped or {}).values()), dest.stat().st_size
    written = len(samples) - len(sentences)
    classes = int(np.unique(samples.labels[samples.labels >= 0]).size)  # without a label is -1
    found = {"images": len(samples), "classes": classes}
    result = {"path": str(dest), "samples": written, "bytes": size, "source": samples.source, "found": found}
    result["skipped"] = sentences
    lines = [
        f"{dest}: {written:,} samples, {size:,} bytes, from {samples.source}",
        f"classes found: {classes:,}, images: {len(samples):,}",
    ]
    lines += [f"left out: {sentence}" for sentence in sentences]
    show(result, json, "\n".join(map(on_one_line, lines)))
