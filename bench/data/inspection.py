"""What a beton file (FFCV's format) holds, and whether its samples are whole."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from twoview.bench.runtime.progress import progress
from twoview.loaders import beton, checks, decode

SIDES = (32, 64, 128, 256, 384, 512, 768, 1024, 2048, 65535)  # upper bounds of the resolutions' histogram, in pixels
CHUNK = 64  # samples that a thread verifies at a time


def describe(file: beton.Beton) -> dict[str, Any]:
    """Describe the content of a file: fields, counts, sizes in bytes, resolutions in pixels, and images per class."""
    ends = np.searchsorted(SIDES, np.maximum(file.heights, file.widths))
    classes, counts = np.unique(file.labels, return_counts=True)
    return {
        "path": str(file.path),
        "bytes": file.opened.size,
        "samples": len(file),
        "fields": [f"{name}: {kind}" for name, kind in file.fields],
        "made_of": {key: value for key, value in file.about.items() if not key.startswith("left_out_n")},
        "left_out": left_out(file)[1],
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


def left_out(file: beton.Beton) -> tuple[int, list[str]]:
    """Return how many images were skipped when the file was written, and the names of the first of them.

    Raises ValueError if the file's metadata does not have a number and a list of names for them.
    """
    count, names = file.about.get("left_out", 0), file.about.get("left_out_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file.path}: left_out_names must be a list of strings, got {str(names)[:80]}")
    return checks.whole(f"{file.path}: left_out", count, 0), names
