"""Beton files: making a dataset's, looking into one, checking one."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from twoview.bench.runtime.cores import cpu_count
from twoview.bench.runtime.escapes import on_one_line
from twoview.bench.runtime.progress import console, progress
from twoview.loaders import beton, checks, datasets, decode

SIDES = (32, 64, 128, 256, 384, 512, 768, 1024, 2048, 65535)  # upper ends of the histogram of resolutions, pixels
CHUNK = 64  # samples
NAMED = 1000  # images that were left out, whose names a file keeps


def convert(
    samples: datasets.Samples,
    path: Path,
    what: str,
    threads: int,
    skipped: dict[int, str] | None = None,
    dataset: str | None = None,
    split: datasets.Split | None = None,
) -> None:
    """Writes samples to a beton file with a progress bar. skipped: as in `twoview.loaders.beton.write`.

    dataset, split: what the samples are of; None for a folder that is no known dataset's.
    """

    def about() -> dict[str, Any]:
        names = [_text(samples.relative[number]) if samples.files else str(number) for number in skipped or ()]
        origin = {"dataset": dataset, "split": split, "listing": samples.listing()}
        return origin | {"left_out": len(names), "left_out_names": names[:NAMED]}

    with progress(f"convert {what}", len(samples)) as advance:
        for _ in beton.write(path, len(samples), samples.stored, threads, skipped, about):
            advance()


def dataset_beton(
    name: str,
    split: datasets.Split,
    folder: Path,
    root: Path | None,
    download: bool = True,
    damaged: Literal["raise", "skip"] = "raise",
) -> beton.Beton:
    """The beton file of a dataset's split, converted first where it is not in the folder yet.

    damaged: "skip" leaves out images that cannot be read, and says which.
    FileNotFoundError for a dataset that is nowhere and not to be downloaded; ValueError for a file that was converted
    from something else, or from other images than the data root has now, and for labels that are not the dataset's.
    """
    dataset = datasets.dataset(name)
    dataset.check(split)
    path = folder / f"{name}-{split}.beton"
    if not path.exists():
        samples = dataset.find(root, split) if download else dataset.read(root, split)
        unreadable: dict[int, str] | None = {} if damaged == "skip" else None
        convert(samples, path, f"{name} {split}", cpu_count(), unreadable, name, split)
        for sentence in (unreadable or {}).values():
            _say(f"left out: {sentence}")
        file = beton.open_beton(path)
    else:
        file = beton.open_beton(path)
        _check_origin(file, dataset, split, root)
        if absent := _left_out(file)[0]:
            _say(f"{path} lacks {absent} images that could not be read: `twoview inspect --json` names them")
    _check_labels(file, dataset, split)
    return file


def _say(text: str) -> None:
    console.print(on_one_line(text), markup=False, highlight=False, soft_wrap=True)


def _text(name: str) -> str:
    """The name of a file as any system may print it: bytes that are no UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _check_origin(file: beton.Beton, dataset: datasets.Dataset, split: datasets.Split, root: Path | None) -> None:
    """ValueError where the file says that it was made of something else than the dataset's split as it is now.

    A file that does not say, of FFCV's or an older version, is taken; so is one whose images are not in the data root,
    for betons travel without them. FileNotFoundError where some of the images are not there.
    """
    if not file.about:
        return
    recorded = file.about.get("dataset"), file.about.get("split")
    if recorded != (dataset.name, split):
        made_of = f"{recorded[0]}'s {recorded[1]} images" if recorded[0] else "a folder"
        raise ValueError(
            f"{file.path} must be converted from {dataset.name}'s {split} images, and was from {made_of}: "
            f"give it another name, or keep betons in another folder"
        )
    if file.about.get("listing") is None:
        return
    try:
        samples = dataset.read(root, split)
    except datasets.NotInRoot:
        return
    if samples.listing() != file.about["listing"]:
        count = len(file) + _left_out(file)[0]
        raise ValueError(
            f"{file.path} was converted from {count:,} images that are not the {len(samples):,} of {samples.source}: "
            f"delete it, or keep betons in another folder"
        )


def _left_out(file: beton.Beton) -> tuple[int, list[str]]:
    """How many images the file says that it lacks, and the names of the first. ValueError where it says neither."""
    count, names = file.about.get("left_out", 0), file.about.get("left_out_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file.path}: the names of images that were left out must be a list of texts")
    return checks.whole(f"{file.path}: the number of images that were left out", count, 0), names


def _check_labels(file: beton.Beton, dataset: datasets.Dataset, split: datasets.Split) -> None:
    """ValueError where a label is no class of the dataset: a loss would fail at it, on a GPU without a word."""
    least = -1 if split == "unlabeled" else 0
    wrong = file.labels < least
    if dataset.count is not None:
        wrong |= file.labels >= dataset.count
    for sample in np.flatnonzero(wrong):
        bounds = f"{least} or more" if dataset.count is None else f"from {least} to {dataset.count - 1}"
        raise ValueError(
            f"{file.path}: labels of {dataset.name} must be {bounds}, got {file.labels[sample]} of sample {sample}"
        )


def identity(*files: beton.Beton) -> dict[str, str]:
    """What a record says of its data: each file's name -> the XXH64 of its index, which holds every sample's.

    A file of FFCV's own has none and is left out.
    """
    return {file.path.stem: f"{file.index:016x}" for file in files if file.index is not None}


def describe(file: beton.Beton) -> dict[str, Any]:
    """What is in a file: fields, counts, sizes in bytes, resolutions in pixels, images a class."""
    ends = np.searchsorted(SIDES, np.maximum(file.heights, file.widths))
    classes, counts = np.unique(file.labels, return_counts=True)
    return {
        "path": str(file.path),
        "bytes": file.opened.size,
        "samples": len(file),
        "fields": [f"{name}: {kind}" for name, kind in file.fields],
        "made_of": {key: value for key, value in file.about.items() if key != "left_out_names"},
        "left_out": _left_out(file)[1],
        "jpeg": int((file.modes == beton.JPEG).sum()),
        "raw": int((file.modes == beton.RAW).sum()),
        "checksums": bool(file.checksums.size),
        "index_xxh64": f"{file.index:016x}" if file.index is not None else None,
        "sample_bytes": _spread(file.sizes),
        "width": _spread(file.widths),
        "height": _spread(file.heights),
        "longer_side": {f"<= {side}": int((ends == i).sum()) for i, side in enumerate(SIDES) if (ends == i).any()},
        "classes": {int(label): int(count) for label, count in zip(classes, counts, strict=True)},
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {"least": int(values.min()), "median": float(np.median(values)), "most": int(values.max())}


def verify(file: beton.Beton, threads: int) -> dict[str, Any]:
    """Decodes every sample and compares its checksum. `damaged` is sample number -> what is wrong with it.

    The seconds are of decoding: the kernel is compiled, or loaded from its cache, before.
    """
    checks.whole("threads", threads, 1)
    with decode.Decoder() as decoder:
        decoder.check(file, np.arange(0))
    start = time.perf_counter()
    damaged: dict[int, str] = {}
    with progress(f"verify {file.path.name}", len(file)) as advance:
        for samples, statuses in _decoded(file, threads):
            for row in np.flatnonzero(statuses):
                sample = int(samples[row])
                damaged[sample] = decode.fault(file, sample, int(statuses[row]))
            for _ in samples:
                advance()
    seconds = time.perf_counter() - start
    return {
        "path": str(file.path),
        "samples": len(file),
        "checksums": bool(file.checksums.size),
        "damaged": damaged,
        "seconds": seconds,
        "images_per_s": len(file) / seconds,
        "gb_per_s": int(file.sizes.sum()) / seconds / 1e9,
    }


def _decoded(file: beton.Beton, threads: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(sample numbers, their status) of every sample, chunk by chunk in order."""

    def status(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with decode.Decoder() as decoder:
            return samples, decoder.check(file, samples)

    chunks = [np.arange(at, min(at + CHUNK, len(file))) for at in range(0, len(file), CHUNK)]
    with ThreadPoolExecutor(threads, "verify") as pool:
        yield from pool.map(status, chunks)
