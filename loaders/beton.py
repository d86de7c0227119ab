"""The `.beton` file: FFCV's format (version 2), written whole or not at all, and read with every pointer checked.

Layout, little-endian, as in ffcv 1.0.2 (`ffcv/types.py`, `ffcv/memory_allocator.py`):

    header | one descriptor a field | one metadata row a sample | pages of sample bytes | allocation table

The dtypes are spelled out here because importing ffcv takes four seconds; a test holds them to ffcv's own.
A sample never crosses a page. JPEG bytes are stored as they came; everything else as raw pixels.

Ours besides: checksums. One XXH64 a sample lies between the pages and the allocation table, where FFCV never looks.
Where they are, and the checksum of everything that is not a sample's bytes (the index), stands in the integer field's
arguments, which FFCV fills with zeros and ignores. A file of FFCV's own has none, and is read without them.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loaders.checksum import xxh64
from loaders.files import whole_file

VERSION = 2
JPEG, RAW = 0, 1  # ffcv.fields.rgb_image.IMAGE_MODES
INT_FIELD, IMAGE_FIELD = 1, 2  # ffcv.types.TYPE_ID_HANDLER
PAGE = 1 << 23  # bytes; ffcv's default, four huge pages

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FIELD = np.dtype([("type_id", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", (1024,)))], align=True)
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
SAMPLE = np.dtype([("image", IMAGE), ("label", "<i8")], align=True)
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
SEAL = np.dtype([("magic", "S8"), ("checksums_ptr", "<u8"), ("index", "<u8")])
MAGIC = b"twoview1"


@dataclass(frozen=True)
class Stored:
    """One sample as it goes into the file. content: a JPEG file (mode JPEG) or height x width x 3 bytes (mode RAW).

    origin: what a sentence about the sample calls it; its number in the file that is written, where this is empty.
    """

    mode: int
    height: int
    width: int
    content: bytes
    label: int
    origin: str = ""


@dataclass(frozen=True)
class Beton:
    """An opened file. All arrays have one entry a sample.

    file: uint8 (bytes of the file,), a read-only memory map. modes: uint8. heights, widths: int64, pixels.
    pointers, sizes: int64, the byte range of the sample in `file`. labels: int64.
    checksums: uint64, XXH64 of those bytes; empty where the file has none.
    index: XXH64 of all else, the checksums among it: equal ones mean equal files. None where the file has none.
    """

    path: Path
    file: np.ndarray
    modes: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    pointers: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    checksums: np.ndarray
    index: int | None

    def __len__(self) -> int:
        return len(self.labels)


def write(
    path: Path, count: int, sample: Callable[[int], Stored], threads: int = 2, skipped: list[str] | None = None
) -> Iterator[int]:
    """Writes `count` samples to `path`; yields the number seen so far, so that the caller can show progress.

    sample: called with 0 .. count - 1 from `threads` threads; its exceptions reach the caller.
    skipped: where given, a sample that raises ValueError is left out, and the error's sentence appended here.
    The same samples give the same bytes. The file appears when the iterator is exhausted, never in part.
    Raises ValueError for a sample that the format cannot hold, or where there is no sample to write.
    """
    metadata = np.zeros(count, SAMPLE)
    table = np.zeros(count, ALLOCATION)
    checksums = np.zeros(count, np.uint64)
    descriptors = _descriptors()
    start = HEADER.itemsize + descriptors.nbytes + metadata.nbytes
    kept = 0
    with whole_file(path) as part, open(part, "wb") as file:
        end = -(-start // PAGE) * PAGE
        for index, result in enumerate(_in_order(count, sample, threads)):
            try:
                stored = result()
                _check(path, index, stored)
            except ValueError as error:
                if skipped is None:
                    raise
                skipped.append(str(error))
                yield index + 1
                continue
            size = len(stored.content)
            if end % PAGE + size > PAGE:
                end = -(-end // PAGE) * PAGE
            file.seek(end)
            file.write(stored.content)
            metadata[kept] = ((stored.mode, stored.width, stored.height, end), stored.label)
            table[kept] = (kept, end, size)
            checksums[kept] = xxh64(np.frombuffer(stored.content, np.uint8), 0, size)
            kept += 1
            end += size
            yield index + 1
        if kept == 0:
            reason = f": each of {len(skipped):,} was left out; the first: {skipped[0]}" if skipped else ""
            raise ValueError(f"{path}: no samples to write{reason}")
        end = -(-end // PAGE) * PAGE
        header = np.array((VERSION, len(descriptors), PAGE, kept, end + 8 * kept), HEADER)
        descriptors[-1]["arguments"][: SEAL.itemsize] = _bytes(np.array((MAGIC, end, 0), SEAL))
        parts = [header, descriptors, metadata[:kept], checksums[:kept], table[:kept]]
        seal = np.array((MAGIC, end, _index_checksum(*parts)), SEAL)
        descriptors[-1]["arguments"][: SEAL.itemsize] = _bytes(seal)
        file.seek(end)
        file.write(checksums[:kept].tobytes() + table[:kept].tobytes())
        file.seek(0)
        file.write(header.tobytes() + descriptors.tobytes() + metadata[:kept].tobytes())


def open_beton(path: Path) -> Beton:
    """Opens a file of an image and an integer field, in this order, as `write` and FFCV's DatasetWriter make them.

    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no beton file at {path}")
    size = path.stat().st_size
    if size < HEADER.itemsize:
        raise ValueError(f"{path} is no beton file: {size} bytes, and the header alone has {HEADER.itemsize}")
    file = np.memmap(path, np.uint8, "r")
    header = file[: HEADER.itemsize].view(HEADER)[0]
    if header["version"] != VERSION:
        raise ValueError(f"{path} is no beton file of version {VERSION}: the header says {header['version']}")
    count, fields, table_start = int(header["num_samples"]), int(header["num_fields"]), int(header["alloc_table_ptr"])
    start = HEADER.itemsize + fields * FIELD.itemsize
    if start + count * SAMPLE.itemsize > size or table_start + count * ALLOCATION.itemsize > size:
        raise ValueError(f"{path} is truncated: {size} bytes do not hold the {count} samples that its header announces")
    descriptors = np.array(file[HEADER.itemsize : start]).view(FIELD)
    types = list(descriptors["type_id"])
    if types != [IMAGE_FIELD, INT_FIELD]:
        raise ValueError(f"{path} must hold an RGB image field and an integer field; its field types are {types}")
    metadata = np.array(file[start : start + count * SAMPLE.itemsize]).view(SAMPLE)
    table = np.array(file[table_start : table_start + count * ALLOCATION.itemsize]).view(ALLOCATION)
    checksums, index = _checksums(path, file, file[: HEADER.itemsize].view(HEADER), descriptors, metadata, table)
    table = table[np.argsort(table["sample_id"], kind="stable")]
    image = metadata["image"]
    if not (np.array_equal(table["sample_id"], np.arange(count)) and np.array_equal(table["ptr"], image["data_ptr"])):
        raise ValueError(f"{path} is damaged: its allocation table and its metadata disagree")
    inside = (table["ptr"] <= size) & (table["size"] <= size) & (table["ptr"] + table["size"] <= size)
    if not inside.all():
        raise ValueError(f"{path} is damaged: sample {np.argmin(inside)} lies outside the file")
    return Beton(
        path=path,
        file=np.asarray(file),
        modes=image["mode"].copy(),
        heights=image["height"].astype(np.int64),
        widths=image["width"].astype(np.int64),
        pointers=table["ptr"].astype(np.int64),
        sizes=table["size"].astype(np.int64),
        labels=metadata["label"].copy(),
        checksums=checksums,
        index=index,
    )


def _checksums(
    path: Path,
    file: np.ndarray,
    header: np.ndarray,
    descriptors: np.ndarray,
    metadata: np.ndarray,
    table: np.ndarray,
) -> tuple[np.ndarray, int | None]:
    """The checksums of the samples and, once it agrees, of the index; none where the field's arguments are zeros."""
    arguments = descriptors[-1]["arguments"]
    if not arguments.any():
        return np.empty(0, np.uint64), None
    seal = np.array(arguments[: SEAL.itemsize]).view(SEAL)[0]
    start, size = int(seal["checksums_ptr"]), 8 * len(table)
    if seal["magic"] == MAGIC and start + size <= file.size:
        arguments[: SEAL.itemsize] = _bytes(np.array((MAGIC, start, 0), SEAL))
        checksums = np.array(file[start : start + size]).view(np.uint64)
        if _index_checksum(header, descriptors, metadata, checksums, table) == seal["index"]:
            return checksums, int(seal["index"])
    raise ValueError(f"{path} is damaged: its index is not the one that was written")


def _index_checksum(*parts: np.ndarray) -> int:
    """XXH64 of all that is not a sample's bytes, with a zero in this checksum's own place."""
    content = np.concatenate([_bytes(part) for part in parts])
    return int(xxh64(content, 0, content.size))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(array.tobytes(), np.uint8)


def _descriptors() -> np.ndarray:
    descriptors = np.zeros(2, FIELD)
    for row, (name, type_id) in zip(descriptors, [("image", IMAGE_FIELD), ("label", INT_FIELD)], strict=True):
        row["type_id"] = type_id
        row["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
    return descriptors


def _check(path: Path, index: int, stored: Stored) -> None:
    origin = stored.origin or f"{path}: sample {index}"
    if not (0 < stored.height < 1 << 16 and 0 < stored.width < 1 << 16):
        raise ValueError(
            f"{origin} is {stored.width:,} x {stored.height:,} pixels; the format takes 1 to 65,535 a side"
        )
    if len(stored.content) > PAGE:
        size = f"{len(stored.content):,} bytes" + (" as pixels" if stored.mode == RAW else "")
        raise ValueError(f"{origin} has {size}; a page holds {PAGE:,}: store it smaller with --max-resolution")


def _in_order(count: int, sample: Callable[[int], Stored], threads: int) -> Iterator[Callable[[], Stored]]:
    """The results of sample(0), sample(1), ..., to be called for, from a pool that runs at most a few samples ahead."""
    ahead = 8 * threads
    with ThreadPoolExecutor(threads, "beton-writer") as pool:
        waiting = deque(pool.submit(sample, index) for index in range(min(ahead, count)))
        try:
            for index in range(count):
                future = waiting.popleft()
                future.exception()  # waits
                if index + ahead < count:
                    waiting.append(pool.submit(sample, index + ahead))
                yield future.result
        finally:
            for future in waiting:
                future.cancel()
