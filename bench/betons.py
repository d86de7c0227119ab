"""Beton files: making a dataset's, looking into one, checking one."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bench.cores import cpu_count
from bench.progress import progress
from loaders import beton, datasets, decode

SIDES = (32, 64, 128, 256, 384, 512, 768, 1024, 2048, 65535)  # upper ends of the histogram of resolutions, pixels
CHUNK = 64  # samples


def convert(samples: datasets.Samples, path: Path, what: str, threads: int, skipped: list[str] | None = None) -> None:
    """Writes samples to a beton file with a progress bar. skipped: as in `loaders.beton.write`."""
    with progress(f"convert {what}", len(samples)) as advance:
        for _ in beton.write(path, len(samples), samples.stored, threads, skipped):
            advance()


def of_dataset(name: str, split: datasets.Split, folder: Path, root: Path | None, download: bool = True) -> beton.Beton:
    """The beton file of a dataset's split, converted first where it is not in the folder yet.

    FileNotFoundError for a dataset that is nowhere and not to be downloaded.
    """
    path = folder / f"{name}-{split}.beton"
    if not path.exists():
        dataset = datasets.dataset(name)
        samples = dataset.find(root, split) if download else dataset.read(root, split)
        convert(samples, path, f"{name} {split}", cpu_count())
    return beton.open_beton(path)


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
        "bytes": file.file.size,
        "samples": len(file),
        "fields": {"image": "RGB image", "label": "integer"},
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
    """Decodes every sample and compares its checksum. `damaged` is sample number -> what is wrong with it."""
    start = time.perf_counter()
    damaged: dict[int, str] = {}
    with progress(f"verify {file.path.name}", len(file)) as advance:
        for samples, statuses in _decoded(file, threads):
            for row in np.flatnonzero(statuses):
                damaged[int(samples[row])] = decode.STATUS_TEXT[int(statuses[row])]
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
    """(sample numbers, their status) of every sample, chunk by chunk in order: a decode without a view."""
    index = file.modes, file.heights, file.widths, file.pointers, file.sizes, file.checksums
    table, nothing = decode.view_table(()), np.empty(0, np.uint8)
    offsets, _ = decode.output_layout((), 0)

    def status(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with decode.Decoder() as decoder:
            return samples, decoder.render(file.file, *index, samples, table, 0, 0, nothing, offsets, 0)

    chunks = [np.arange(at, min(at + CHUNK, len(file))) for at in range(0, len(file), CHUNK)]
    with ThreadPoolExecutor(threads, "verify") as pool:
        yield from pool.map(status, chunks)
