"""The `.beton` file, FFCV's format (version 2): writes are atomic, and every pointer that is read is checked.

Layout, little-endian, as in ffcv 1.0.2 (`ffcv/types.py`, `ffcv/memory_allocator.py`):

    header | one descriptor per field | one metadata row per sample | pages of sample bytes | allocation table

The dtypes are spelled out here because importing ffcv takes four seconds; a test compares them with ffcv's own.
A sample never crosses a page. JPEG bytes are stored unchanged, and every other image as raw pixels. `write` makes files
with an image field and a label field. `open_beton` reads these two fields of any beton file, whatever other fields the
file has and in whatever order.

Two things are added to FFCV's format: checksums, and a description of what the file was made of. One XXH64 per sample
lies between the pages and the allocation table, where FFCV never looks. After these comes the description as JSON,
followed by its own XXH64. The arguments of the integer field, which FFCV fills with zeros and ignores, hold the seal:
the place of the checksums, and one checksum of everything that is not a sample's bytes (the index). A file that FFCV
wrote has neither, and is read without them.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from mmap import ACCESS_READ, mmap
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from twoview.loaders import checks
from twoview.loaders.checksum import xxh64_of
from twoview.loaders.files import whole_file
from twoview.loaders.limits import FIELD_BYTES, SAMPLES
from twoview.loaders.names import shown
from twoview.loaders.reading import OpenFile
from twoview.loaders.samplers import spread

VERSION = 2
JPEG, RAW = 0, 1  # ffcv.fields.rgb_image.IMAGE_MODES
PAGE = 1 << 23  # bytes; ffcv's default, equal to four huge pages of memory
WAITING = 4 * PAGE  # most bytes of finished samples that a writer keeps until it is their turn to be written

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
REGION = np.dtype([("ptr", "<u8"), ("size", "<u8")])
INT_FIELD, IMAGE_FIELD = 1, 2
# Type of a field (ffcv.types.TYPE_ID_HANDLER) -> its name in words, and the dtype of its part of a metadata row.
FIELDS = {
    0: ("float", np.dtype("<f8")),
    INT_FIELD: ("integer", np.dtype("<i8")),
    IMAGE_FIELD: ("RGB image", IMAGE),
    3: ("bytes", REGION),
    4: ("array", np.dtype("<u8")),
    5: ("JSON", REGION),
    6: ("tensor", np.dtype("<u8")),
}
IN_THE_ROW = {0, INT_FIELD}  # types whose value is in the metadata row itself; all others have bytes in a page
SOME, LAST = 256, 64  # number of samples of a file without checksums, and bytes of each, that identify the file
ABOUT_LIMIT = 1 << 24  # most bytes of the JSON that describes what a file was made of
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
SEAL = np.dtype([("magic", "S8"), ("checksums_ptr", "<u8"), ("index", "<u8")])
MAGIC = b"twoview1"


@dataclass(frozen=True)
class Stored:
    """One sample as it goes into the file.

    mode: JPEG or RAW. height, width: of the image, in pixels.
    content: the bytes of a JPEG file (mode JPEG), or height x width x 3 bytes of RGB pixels (mode RAW).
    origin: the sample's name in error messages; if it is empty, they give the sample's number in the written file.
    """

    mode: int
    height: int
    width: int
    content: bytes
    label: int
    origin: str = ""


class SampleTable(NamedTuple):
    """The columns that tell where each sample is and how it is stored: the fields of `Beton` with the same names."""

    modes: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    pointers: np.ndarray
    sizes: np.ndarray
    checksums: np.ndarray


class Layout(NamedTuple):
    """An open file and the table of its samples: all that is needed to read and decode them."""

    opened: OpenFile
    table: SampleTable


@dataclass(frozen=True)
class Beton:
    """An opened beton file. All arrays have one entry per sample.

    opened: the file that the bytes are read from. modes: uint8, JPEG or RAW. heights, widths: int64, in pixels.
    pointers, sizes: int64, where the sample's bytes start in the file, and how many they are. labels: int64.
    checksums: uint64, the XXH64 of those bytes; empty if the file has no checksums.
    index: XXH64 of everything but the samples' bytes, including their checksums, so files with the same index have the
    same samples. For a file without checksums, of the samples' places, sizes and labels, and of the last bytes of some.
    fields: name and kind ("RGB image", "integer", ...) of every field, in the file's order. Without a label field all
    labels are -1. about: what the file was made of, as given to `write`; empty if the file does not say.
    samples: the numbers of the samples in the file, if these are not all of them, see `only`.
    Pickling stores the path. Unpickling opens the file again, and raises ValueError if it has changed.
    """

    path: Path
    opened: OpenFile
    modes: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    pointers: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    checksums: np.ndarray
    index: int
    fields: tuple[tuple[str, str], ...] = (("image", "RGB image"), ("label", "integer"))
    about: Mapping[str, Any] = field(default_factory=dict)
    samples: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        chosen = None if self.samples is None else (self.samples, self.labels)
        return _reopened, (self.path, self.opened.size, self.index, chosen)

    def only(self, samples: np.ndarray, labels: np.ndarray | None = None) -> "Beton":
        """Return a part of the file, which loaders and probes take like a file of its own.

        samples: int64 (N,), numbers of samples of this file. labels: int64 (N,), other labels for them, if given.
        """
        return replace(
            self,
            modes=self.modes[samples],
            heights=self.heights[samples],
            widths=self.widths[samples],
            pointers=self.pointers[samples],
            sizes=self.sizes[samples],
            labels=self.labels[samples] if labels is None else labels,
            checksums=self.checksums[samples] if self.checksums.size else self.checksums,
            samples=samples if self.samples is None else self.samples[samples],
        )

    @cached_property
    def file(self) -> np.ndarray:
        """The whole file as a read-only memory map, uint8 (bytes of the file,), for measurements and tests.

        If the file is cut short while it is mapped, an access to the missing part ends the process with SIGBUS. Code
        that must survive this reads instead: `content` does, and the decoder does through `opened.descriptor`.
        """
        return np.frombuffer(mmap(self.opened.descriptor, 0, access=ACCESS_READ), np.uint8)

    @property
    def layout(self) -> Layout:
        """The open file and its table of samples, as `Decoder.render` takes them."""
        arrays = self.modes, self.heights, self.widths, self.pointers, self.sizes, self.checksums
        return Layout(self.opened, SampleTable(*arrays))

    def content(self, sample: int) -> np.ndarray:
        """Return a sample's bytes, uint8 1-D, without comparing them with their checksum.

        Raises ValueError, naming the file, if it was cut short.
        """
        return self.opened.read(int(self.pointers[sample]), int(self.sizes[sample]))


def write(
    path: Path,
    count: int,
    sample: Callable[[int], Stored],
    threads: int = 2,
    skipped: dict[int, str] | None = None,
    about: Callable[[], Mapping[str, Any]] | None = None,
) -> Iterator[int]:
    """Write `count` samples to `path`, and yield the number of samples processed so far, for a progress display.

    sample: a function that is called with 0 .. count - 1 from `threads` threads; its exceptions reach the caller.
    skipped: if given, a sample that raises ValueError is skipped, and its number -> the error's message is added here.
    about: a function that is called after the last sample and returns a description of what the file was made of, in
    JSON values. The same samples give the same bytes. The file appears only when the iterator is exhausted. Raises
    ValueError for a sample that the format cannot hold, or if there is no sample to write.
    """
    checks.whole("threads", threads, 1)
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
                what = stored.origin or f"{path}: sample {index}"
                check_fits(what, stored.mode, stored.height, stored.width, len(stored.content))
            except ValueError as error:
                if skipped is None:
                    raise
                skipped[index] = str(error)
                yield index + 1
                continue
            size = len(stored.content)
            if end % PAGE + size > PAGE:
                end = -(-end // PAGE) * PAGE
            file.seek(end)
            file.write(stored.content)
            metadata[kept] = ((stored.mode, stored.width, stored.height, end), stored.label)
            table[kept] = (kept, end, size)
            checksums[kept] = xxh64_of(stored.content)
            kept += 1
            end += size
            yield index + 1
        if kept == 0:
            reason = f": every sample was skipped; the first: {next(iter(skipped.values()))}" if skipped else ""
            raise ValueError(f"{path}: no samples to write{reason}")
        end = -(-end // PAGE) * PAGE
        origin = _packed(about()) if about else b""
        header = np.array((VERSION, len(descriptors), PAGE, kept, end + 8 * kept), HEADER)
        descriptors[-1]["arguments"][: SEAL.itemsize] = _bytes(np.array((MAGIC, end, 0), SEAL))
        # The index is computed with zeros in its own place, and as if nothing were stored about the file's origin.
        parts = [header, descriptors, metadata[:kept], checksums[:kept], table[:kept]]
        seal = np.array((MAGIC, end, xxh64_of(*parts)), SEAL)
        descriptors[-1]["arguments"][: SEAL.itemsize] = _bytes(seal)
        header["alloc_table_ptr"] += len(origin)
        file.seek(end)
        file.write(checksums[:kept].tobytes() + origin + table[:kept].tobytes())
        file.seek(0)
        file.write(header.tobytes() + descriptors.tobytes() + metadata[:kept].tobytes())


def open_beton(path: str | PathLike[str]) -> Beton:
    """Open a beton file, FFCV's format, that `write` or FFCV's DatasetWriter made.

    The file needs an RGB image field. An integer field, if there is one, holds the labels. If there are several fields
    of such a kind, the one named "image" or "label" is used. Other fields are ignored.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    path = Path(path)
    opened = OpenFile(path)
    size, header = opened.size, read_header(opened)
    count, table_start = int(header["num_samples"][0]), int(header["alloc_table_ptr"][0])
    descriptors = read_descriptors(opened, header)
    start = HEADER.itemsize + descriptors.nbytes
    names = _fields(path, descriptors)
    row = np.dtype([("", FIELDS[int(one)][1]) for one in descriptors["type_id"]], align=True)
    regions = sum(int(one) not in IN_THE_ROW for one in descriptors["type_id"])  # allocations per sample
    rows_size, table_size = count * row.itemsize, count * regions * ALLOCATION.itemsize
    if start + rows_size > size or table_start + table_size > size:
        raise _truncated(opened, header)
    image_at, label_at = _chosen(path, names, "RGB image", "image"), _chosen(path, names, "integer", "label")
    if image_at is None:
        found = ", ".join(f"{shown(name)} ({kind})" for name, kind in names) or "no field"
        raise ValueError(f"{path} must hold an RGB image field, got {found}")
    metadata = opened.read(start, rows_size).view(row)
    table = opened.read(table_start, table_size).view(ALLOCATION)
    checksums, index, about = _sealed(opened, table_start, header, descriptors, metadata, table)
    labels = np.full(count, -1, np.int64) if label_at is None else metadata[f"f{label_at}"].copy()
    image = metadata[f"f{image_at}"]
    table = _of_pointers(path, table, image["data_ptr"])
    inside = (table["ptr"] <= size) & (table["size"] <= size) & (table["ptr"] + table["size"] <= size)
    if not inside.all():
        raise ValueError(f"{path} is damaged: sample {np.argmin(inside)} lies outside the file")
    largest = int(np.argmax(table["size"]))
    FIELD_BYTES.check(int(table["size"][largest]), f"{path}: field {shown(names[image_at][0])} of sample {largest}")
    return Beton(
        path=path,
        opened=opened,
        modes=image["mode"].copy(),
        heights=image["height"].astype(np.int64),
        widths=image["width"].astype(np.int64),
        pointers=table["ptr"].astype(np.int64),
        sizes=table["size"].astype(np.int64),
        labels=labels,
        checksums=checksums,
        index=_identity(opened, metadata, table) if index is None else index,
        fields=names,
        about=about,
    )


def read_header(opened: OpenFile) -> np.ndarray:
    """Return the file's header, HEADER (1,).

    Raises ValueError, naming the file, if it is not a beton file of this version, or has no samples or too many.
    """
    path = opened.path
    if opened.size < HEADER.itemsize:
        raise ValueError(
            f"{path} is not a beton file: it has {opened.size} bytes, but the header alone has {HEADER.itemsize}"
        )
    header = opened.read(0, HEADER.itemsize).view(HEADER)
    if header["version"][0] != VERSION:
        raise ValueError(f"{path} is not a beton file of version {VERSION}: the header says {header['version'][0]}")
    if header["num_samples"][0] == 0:
        raise ValueError(f"{path} must hold at least one sample, got 0 in its header")
    SAMPLES.check(int(header["num_samples"][0]), str(path))
    return header


def read_descriptors(opened: OpenFile, header: np.ndarray) -> np.ndarray:
    """Return the descriptors of all fields that the header declares, FIELD (fields,).

    Raises ValueError, naming the file, if it ends before they do.
    """
    size = int(header["num_fields"][0]) * FIELD.itemsize
    if HEADER.itemsize + size > opened.size:
        raise ValueError(
            f"{opened.path} is truncated: the fields that its header declares end at byte "
            f"{HEADER.itemsize + size:,}, and it has {opened.size:,}"
        )
    return opened.read(HEADER.itemsize, size).view(FIELD)


def _identity(opened: OpenFile, metadata: np.ndarray, table: np.ndarray) -> int:
    """Return a hash that identifies a file without checksums, which need not be read as a whole for it.

    It covers the metadata, and with them the labels, where the samples are, and the last bytes of some of them.
    """
    some = table[spread(len(table), SOME)]
    ends = (some["ptr"] + some["size"]).astype(np.int64)
    lengths = np.minimum(some["size"], LAST).astype(np.int64)
    last = [opened.read(int(end - length), int(length)) for end, length in zip(ends, lengths, strict=True)]
    return xxh64_of(metadata, table, *last)


def _truncated(opened: OpenFile, header: np.ndarray) -> ValueError:
    announced = f"the {header['num_samples'][0]} samples that its header declares"
    return ValueError(f"{opened.path} is truncated: its {opened.size} bytes cannot hold {announced}")


def _reopened(path: Path, size: int, index: int, chosen: tuple[np.ndarray, np.ndarray] | None) -> Beton:
    """Open the file of a pickled `Beton` again. Raises ValueError if its size or index differs.

    chosen: the numbers of its samples and their labels, if they were not all of the file's.
    """
    file = open_beton(path)
    if (file.opened.size, file.index) != (size, index):
        raise ValueError(f"{path} has changed since it was pickled")
    return file.only(*chosen) if chosen else file


def _fields(path: Path, descriptors: np.ndarray) -> tuple[tuple[str, str], ...]:
    """Return the name and kind of every field. Raises ValueError for a type that FFCV does not have."""
    names = [one.tobytes().split(b"\0")[0].decode("ascii", "replace") for one in descriptors["name"]]
    for name, kind in zip(names, descriptors["type_id"], strict=True):
        if int(kind) not in FIELDS:
            raise ValueError(f"{path}: field {name!r} is of type {kind}; FFCV's types are 0 to {max(FIELDS)}")
    return tuple((name, FIELDS[int(kind)][0]) for name, kind in zip(names, descriptors["type_id"], strict=True))


def _chosen(path: Path, fields: tuple[tuple[str, str], ...], kind: str, name: str) -> int | None:
    """Return the position of the only field of this kind, or, if there are several, of the one named `name`.

    Returns None if there is no field of this kind. Raises ValueError if there are several, and not exactly one of them
    has the name.
    """
    places = [place for place, (_, other) in enumerate(fields) if other == kind]
    named = [place for place in places if fields[place][0] == name]
    if len(places) > 1 and len(named) != 1:
        found = ", ".join(shown(fields[place][0]) for place in places)
        raise ValueError(f"{path} must hold one {kind} field, or one named {name}, got {found}")
    return next(iter(named or places), None)


def _of_pointers(path: Path, table: np.ndarray, pointers: np.ndarray) -> np.ndarray:
    """Return the row of the allocation table for each sample's image, found by the pointer in the metadata row.

    Allocations of size 0, such as an empty caption's, are ignored, because one may start where an image starts.
    Raises ValueError if the table and the pointers disagree.
    """
    table = table[table["size"] > 0]
    table = table[np.argsort(table["ptr"], kind="stable")]
    if not len(table):
        raise ValueError(f"{path} is damaged: none of its samples has any bytes")
    places = np.searchsorted(table["ptr"], pointers)
    found = table[np.minimum(places, len(table) - 1)]
    if not (np.array_equal(found["ptr"], pointers) and np.array_equal(found["sample_id"], np.arange(len(pointers)))):
        raise ValueError(f"{path} is damaged: its allocation table and its metadata disagree")
    return found


def _sealed(
    opened: OpenFile,
    table_start: int,
    header: np.ndarray,
    descriptors: np.ndarray,
    metadata: np.ndarray,
    table: np.ndarray,
) -> tuple[np.ndarray, int | None, Mapping[str, Any]]:
    """Return the samples' checksums, the checksum of the index, and what the file was made of.

    For a file that FFCV wrote these are an empty array, None and an empty mapping. FFCV fills the arguments of number
    and image fields with zeros, so anything else there is a seal or a damaged seal.
    Raises ValueError if the index does not have the checksum that the seal gives.
    """
    empty = [int(one) in {*IN_THE_ROW, IMAGE_FIELD} for one in descriptors["type_id"]]
    starts = [one["arguments"][: len(MAGIC)].tobytes() == MAGIC for one in descriptors]
    if not any(starts) and not descriptors["arguments"][empty].any():
        return np.empty(0, np.uint64), None, {}
    damaged = ValueError(f"{opened.path} is damaged: its index is not the one that was written")
    if not any(starts):
        raise damaged
    arguments = descriptors[starts.index(True)]["arguments"]
    seal = np.array(arguments[: SEAL.itemsize]).view(SEAL)[0]
    start, end = int(seal["checksums_ptr"]), int(seal["checksums_ptr"]) + 8 * len(metadata)
    if end > table_start:
        raise damaged
    checksums = opened.read(start, end - start).view(np.uint64)
    arguments[: SEAL.itemsize] = _bytes(np.array((MAGIC, start, 0), SEAL))
    # The index is computed as if nothing were stored about the origin, which has its own checksum. So two files with
    # equal samples have equal indexes.
    header = np.array(header)
    header["alloc_table_ptr"] = end
    if xxh64_of(header, descriptors, metadata, checksums, table) != seal["index"]:
        raise damaged
    return checksums, int(seal["index"]), _unpacked(opened, end, table_start)


def _packed(about: Mapping[str, Any]) -> bytes:
    """Return `about` as JSON, followed by its XXH64. Raises ValueError if it is longer than a reader accepts."""
    content = json.dumps(about).encode("ascii")
    if len(content) > ABOUT_LIMIT:
        raise ValueError(
            f"the description of what a beton was made of must have at most {ABOUT_LIMIT:,} bytes, got {len(content):,}"
        )
    return content + xxh64_of(content).to_bytes(8, "little")


def _unpacked(opened: OpenFile, start: int, end: int) -> Mapping[str, Any]:
    """Return what `_packed` stored in the bytes start .. end of the file. Raises ValueError if they are damaged."""
    if start == end:
        return {}
    damaged = ValueError(
        f"{opened.path} is damaged: the description of what it was made of is not the one that was written"
    )
    if not 8 < end - start <= ABOUT_LIMIT + 8:
        raise damaged
    content = opened.read(start, end - start).tobytes()
    text, checksum = content[:-8], int.from_bytes(content[-8:], "little")
    if xxh64_of(text) != checksum:
        raise damaged
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, or brackets nested thousands deep
        raise damaged from None
    if not isinstance(about, dict):
        raise damaged
    return about


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(array.tobytes(), np.uint8)


def _descriptors() -> np.ndarray:
    """Return the descriptors of the two fields that `write` makes: an image and a label."""
    descriptors = np.zeros(2, FIELD)
    for row, (name, type_id) in zip(descriptors, [("image", IMAGE_FIELD), ("label", INT_FIELD)], strict=True):
        row["type_id"] = type_id
        row["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
    return descriptors


def check_fits(what: str, mode: int, height: int, width: int, size: int) -> None:
    """Raise ValueError for an image that the format cannot hold.

    what: what the error message calls the image. height, width: in pixels. size: the bytes that it takes in a page.
    """
    if not (0 < height < 1 << 16 and 0 < width < 1 << 16):
        raise ValueError(f"{what} is {width:,} x {height:,} pixels; a beton file allows 1 to 65,535 per side")
    if size > PAGE:
        found = f"{size:,} bytes" + (" as pixels" if mode == RAW else "")
        raise ValueError(
            f"{what} has {found}; a page of a beton file holds {PAGE:,}: make it smaller with --max-resolution"
        )


def _in_order(count: int, sample: Callable[[int], Stored], threads: int) -> Iterator[Callable[[], Stored]]:
    """Yield, for each of sample(0), sample(1), ... in order, a function that returns its result or raises its error.

    A pool of threads computes them, at most a few samples ahead of the caller. While the finished samples that still
    wait for their turn have WAITING bytes or more, no other is begun ahead of its turn. No thread ever waits for room,
    since it would wait forever if the caller stopped iterating.
    """
    ahead = 8 * threads
    turn = begun = running = 0  # the sample whose turn it is, the next sample to begin, how many are running
    done = gone = 0  # bytes of all finished samples, and of those that the caller has already taken
    results: deque[Future[Stored]] = deque()
    lock = Lock()

    def begin() -> None:
        """Begin all samples that may be begun now. The caller holds the lock."""
        nonlocal begun, running
        while running < threads and begun < min(turn + ahead, count) and (done - gone < WAITING or begun == turn):
            results.append(pool.submit(run, begun))
            begun, running = begun + 1, running + 1

    def run(index: int) -> Stored:
        nonlocal running, done
        size = 0
        try:
            stored = sample(index)
            size = len(stored.content)
            return stored
        finally:
            with lock:
                running, done = running - 1, done + size
                begin()

    with ThreadPoolExecutor(threads, "beton-writer") as pool:
        try:
            for index in range(count):
                turn = index
                # If all threads are busy, whichever finishes first begins the next sample. If this one has not been
                # begun, no thread is running, and so it is begun here.
                if running < threads:
                    with lock:
                        begin()
                future = results.popleft()
                failed = future.exception()  # waits until the sample is finished
                yield future.result
                gone += 0 if failed else len(future.result().content)
        finally:
            with lock:
                begun = count  # nothing more is begun, even if the caller stops early
