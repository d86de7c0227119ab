"""Beton files (FFCV's format for datasets): converting a dataset to one, describing one, verifying one."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from twoview.bench.config.contents import OwnData
from twoview.bench.data import own
from twoview.bench.data.conversion import convert, say
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.runtime.progress import progress
from twoview.loaders import beton, checks, datasets, decode

SIDES = (32, 64, 128, 256, 384, 512, 768, 1024, 2048, 65535)  # upper bounds of the resolutions' histogram, in pixels
CHUNK = 64  # samples that a thread verifies at a time


def dataset_beton(
    dataset: datasets.Dataset,
    split: datasets.Split,
    folder: Path,
    root: Path | None,
    download: bool = True,
    damaged: Literal["raise", "skip"] = "raise",
) -> beton.Beton:
    """Open the beton file of a dataset's split; convert the split first if the file is not in the folder yet.

    root: the data root, the folder of the user's datasets. damaged: "skip" skips images that cannot be read and
    prints their names.
    Raises FileNotFoundError if the dataset is not found and must not be downloaded. Raises ValueError if the file does
    not say that it holds this split, if the data root has other images now, or if a label is not a class of the
    dataset.
    """
    if isinstance(dataset, OwnData):
        return own.split_of(dataset, split, folder, damaged)
    dataset.check(split)
    name = dataset.name
    path = folder / f"{name}-{split}.beton"
    if not path.exists():
        samples = dataset.find(root, split) if download else dataset.read(root, split)
        unreadable: dict[int, str] | None = {} if damaged == "skip" else None
        convert(samples, path, f"{name} {split}", cpu_count(), unreadable, origin_of(dataset, split))
        for sentence in (unreadable or {}).values():
            say(f"skipped: {sentence}")
        file = beton.open_beton(path)
    else:
        file = beton.open_beton(path)
        _check_origin(file, dataset, split, root)
        if absent := _left_out(file)[0]:
            say(f"{path} lacks {absent:,} images that could not be read: `twoview inspect --json` lists them")
    _check_labels(file, dataset, split)
    return file


def origin_of(dataset: datasets.Dataset, split: datasets.Split) -> dict[str, Any]:
    """Return what a beton says about a split of a dataset. Names of classes only known from the data are omitted."""
    return {"dataset": dataset.name, "split": split, "classes": list(dataset.names()) if dataset.names else None}


def _check_origin(file: beton.Beton, dataset: datasets.Dataset, split: datasets.Split, root: Path | None) -> None:
    """Raise ValueError unless the file says that it was converted from the dataset's split as it is now.

    A file whose images are not in the data root is accepted, since beton files may be copied without them. Raises
    FileNotFoundError if only some images exist.
    """
    recorded = file.about.get("dataset"), file.about.get("split")
    if recorded != (dataset.name, split):
        made_of = f"was converted from {recorded[0]}'s {recorded[1]} images" if recorded[0] else "does not say so"
        raise ValueError(
            f"{file.path} must be converted from {dataset.name}'s {split} images, but {made_of}: give it another name, "
            f"keep betons in another folder with --betons, or train on it as it is with --data {file.path}"
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
            f"{file.path} is out of date: it was converted from {count:,} images, and {samples.source} has "
            f"{len(samples):,} with other names or labels now: delete the file, or use another folder with --betons"
        )


def _left_out(file: beton.Beton) -> tuple[int, list[str]]:
    """Return how many images were skipped when the file was written, and the names of the first of them.

    Raises ValueError if the file's metadata does not have a number and a list of names for them.
    """
    count, names = file.about.get("left_out", 0), file.about.get("left_out_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file.path}: left_out_names must be a list of strings, got {str(names)[:80]}")
    return checks.whole(f"{file.path}: left_out", count, 0), names


def _check_labels(file: beton.Beton, dataset: datasets.Dataset, split: datasets.Split) -> None:
    """Raise ValueError if a label is not a class of the dataset: a loss would fail, on a GPU without a clear error."""
    least = -1 if split == "unlabeled" else 0
    wrong = file.labels < least
    if dataset.count is not None:
        wrong |= file.labels >= dataset.count
    for sample in np.flatnonzero(wrong):
        bounds = f"{least} or more" if dataset.count is None else f"from {least} to {dataset.count - 1}"
        raise ValueError(
            f"{file.path}: labels of {dataset.name} must be {bounds}, got {file.labels[sample]} for sample {sample}"
        )


def identity(*files: beton.Beton) -> dict[str, str]:
    """Return what a record says about its data: each file's name -> the XXH64 of its index in hex.

    The index contains the hash of every sample, so this identifies the content. For a file that FFCV wrote, see
    `Beton.index`.
    """
    return {file.path.stem: f"{file.index:016x}" for file in files}


def describe(file: beton.Beton) -> dict[str, Any]:
    """Describe the content of a file: fields, counts, sizes in bytes, resolutions in pixels, and images per class."""
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
        "index_xxh64": f"{file.index:016x}",
        "sample_bytes": _spread(file.sizes),
        "width": _spread(file.widths),
        "height": _spread(file.heights),
        "longer_side": {f"<= {side}": int((ends == i).sum()) for i, side in enumerate(SIDES) if (ends == i).any()},
        "classes": {int(label): int(count) for label, count in zip(classes, counts, strict=True)},
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {"least": int(values.min()), "median": float(np.median(values)), "most": int(values.max())}


def verify(file: beton.Beton, threads: int) -> dict[str, Any]:
    """Decode every sample and compare its checksum. In the result, `damaged` is sample number -> the fault.

    `seconds` is the time of decoding only: the kernel is compiled, or loaded from its cache, before. Raises ValueError
    if threads is below 1.
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
    """Yield sample numbers and their decoding statuses (0 if fine), chunk by chunk in order, for all samples."""

    def status(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with decode.Decoder() as decoder:
            return samples, decoder.check(file, samples)

    chunks = [np.arange(at, min(at + CHUNK, len(file))) for at in range(0, len(file), CHUNK)]
    with ThreadPoolExecutor(threads, "verify") as pool:
        yield from pool.map(status, chunks)
