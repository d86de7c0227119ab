"""The `.beton` file: FFCV's format (version 2), written whole or not at all, and read with every pointer checked.

Layout, little-endian, as in ffcv 1.0.2 (`ffcv/types.py`, `ffcv/memory_allocator.py`):

    header | one descriptor a field | one metadata row a sample | pages of sample bytes | allocation table

The dtypes are spelled out here because importing ffcv takes four seconds; a test holds them to ffcv's own.
A sample never crosses a page. JPEG bytes are stored as they came; everything else as raw pixels. `write` makes files
of an image and a label; `open_beton` reads these two of any file, whatever other fields it has and in whatever order.

Ours besides: checksums, and what the file was made of. One XXH64 a sample lies between the pages and the allocation
table, where FFCV never looks, and behind them JSON and its own XXH64. Where they are, and the checksum of everything
that is not a sample's bytes (the index), stands in the integer field's arguments, which FFCV fills with zeros and
ignores. A file of FFCV's own has none, and is read without them.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
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

VERSION = 2
JPEG, RAW = 0, 1  # ffcv.fields.rgb_image.IMAGE_MODES
PAGE = 1 << 23  # bytes; ffcv's default, four huge pages
WAITING = 4 * PAGE  # bytes of samples that a writer holds before it is their turn

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
# The type of a field (ffcv.types.TYPE_ID_HANDLER) -> its name in words, and what a sample's metadata row has of it.
FIELDS = {
    0: ("float", np.dtype("<f8")),
    INT_FIELD: ("integer", np.dtype("<i8")),
    IMAGE_FIELD: ("RGB image", IMAGE),
    3: ("bytes", REGION),
    4: ("array", np.dtype("<u8")),
    5: ("JSON", REGION),
    6: ("tensor", np.dtype("<u8")),
}
IN_THE_ROW = {0, INT_FIELD}  # the types whose value is in the metadata row; every other has bytes in a page
ABOUT_LIMIT = 1 << 24  # bytes of what a file says of its origin
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


class SampleTable(NamedTuple):
    """Where and what the samples are: the fields of `Beton` of the same names."""

    modes: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    pointers: np.ndarray
    sizes: np.ndarray
    checksums: np.ndarray


class Layout(NamedTuple):
    """The file, and where in it the samples are."""

    opened: OpenFile
    table: SampleTable


@dataclass(frozen=True)
class Beton:
    """An opened file. All arrays have one entry a sample.

    opened: what its bytes are read from. modes: uint8. heights, widths: int64, pixels.
    pointers, sizes: int64, the byte range of the sample in the file. labels: int64.
    checksums: uint64, XXH64 of those bytes; empty where the file has none.
    index: XXH64 of all else, the checksums among it: equal ones mean equal files. None where the file has none.
    fields: name and kind ("RGB image", "integer", ...) of every field, in the file's order. Without a label field all
    labels are -1. about: what the file was made of, as `write` was told; empty where the file does not say.
    A pickled one is the path, and opens the file anew: ValueError where that is another file by then.
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
    index: int | None
    fields: tuple[tuple[str, str], ...] = (("image", "RGB image"), ("label", "integer"))
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.opened.size, len(self), self.index)

    @cached_property
    def file(self) -> np.ndarray:
        """uint8 (bytes of the file,), a read-only memory map, for measurements and tests.

        Where the file is cut while it is mapped, a touch of what is gone ends the process with SIGBUS. Whatever must
        live on reads: `content`, and the decoder by `opened.descriptor`.
        """
        return np.frombuffer(mmap(self.opened.descriptor, 0, access=ACCESS_READ), np.uint8)

    @property
    def layout(self) -> Layout:
        """What `Decoder.render` has to know of the file."""
        arrays = self.modes, self.heights, self.widths, self.pointers, self.sizes, self.checksums
        return Layout(self.opened, SampleTable(*arrays))

    def content(self, sample: int) -> np.ndarray:
        """A sample's bytes, uint8 1-D, not compared with their checksum. ValueError naming the file if it was cut."""
        return self.opened.read(int(self.pointers[sample]), int(self.sizes[sample]))


def write(
    path: Path,
    count: int,
    sample: Callable[[int], Stored],
    threads: int = 2,
    skipped: dict[int, str] | None = None,
    about: Callable[[], Mapping[str, Any]] | None = None,
) -> Iterator[int]:
    """Writes `count` samples to `path`; yields the number seen so far, so that the caller can show progress.

    sample: called with 0 .. count - 1 from `threads` threads; its exceptions reach the caller.
    skipped: where given, a sample that raises ValueError is left out; its number and the error's sentence come in here.
    about: called behind the last sample; what JSON can hold of the file's origin.
    The same samples give the same bytes. The file appears when the iterator is exhausted, never in part.
    Raises ValueError for a sample that the format cannot hold, or where there is no sample to write.
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
            reason = (
                f": each of {len(skipped):,} was left out; the first: {next(iter(skipped.values()))}" if skipped else ""
            )
            raise ValueError(f"{path}: no samples to write{reason}")
        end = -(-end // PAGE) * PAGE
        origin = _packed(about()) if about else b""
        header = np.array((VERSION, len(descriptors), PAGE, kept, end + 8 * kept), HEADER)
        descriptors[-1]["arguments"][: SEAL.itemsize] = _bytes(np.array((MAGIC, end, 0), SEAL))
        parts = [header, descriptors, metadata[:kept], checksums[:kept], table[:kept]]
        seal = np.array((MAGIC, end, xxh64_of(*parts)), SEAL)
        descriptors[-1]["arguments"][: SEAL.itemsize] = _bytes(seal)
        header["alloc_table_ptr"] += len(origin)
        file.seek(end)
        file.write(checksums[:kept].tobytes() + origin + table[:kept].tobytes())
        file.seek(0)
        file.write(header.tobytes() + descriptors.tobytes() + metadata[:kept].tobytes())


def open_beton(path: str | PathLike[str]) -> Beton:
    """Opens a file that `write` or FFCV's DatasetWriter made, with an RGB image field and, if it has labels, an integer
    field. Of several of a kind, the ones called "image" and "label" are taken; other fields are passed over.

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
    regions = sum(int(one) not in IN_THE_ROW for one in descriptors["type_id"])  # of each sample
    rows_size, table_size = count * row.itemsize, count * regions * ALLOCATION.itemsize
    if start + rows_size > size or table_start + table_size > size:
        raise _truncated(opened, header)
    image_at, label_at = _chosen(path, names, "RGB image", "image"), _chosen(path, names, "integer", "label")
    if image_at is None:
        found = ", ".join(f"{shown(name)} ({kind})" for name, kind in names) or "no field"
        raise ValueError(f"{path} must hold an RGB image field, and holds {found}")
    metadata = opened.read(start, rows_size).view(row)
    table = opened.read(table_start, table_size).view(ALLOCATION)
    checksums, index, about = _sealed(opened, table_start, header, descriptors, metadata, table)
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
        labels=np.full(count, -1, np.int64) if label_at is None else metadata[f"f{label_at}"].copy(),
        checksums=checksums,
        index=index,
        fields=names,
        about=about,
    )


def read_header(opened: OpenFile) -> np.ndarray:
    """HEADER (1,). ValueError, naming the file, for one of another kind, without samples, or of too many."""
    path = opened.path
    if opened.size < HEADER.itemsize:
        raise ValueError(f"{path} is no beton file: {opened.size} bytes, and the header alone has {HEADER.itemsize}")
    header = opened.read(0, HEADER.itemsize).view(HEADER)
    if header["version"][0] != VERSION:
        raise ValueError(f"{path} is no beton file of version {VERSION}: the header says {header['version'][0]}")
    if header["num_samples"][0] == 0:
        raise ValueError(f"{path} must hold at least one sample, and its header announces none")
    SAMPLES.check(int(header["num_samples"][0]), str(path))
    return header


def read_descriptors(opened: OpenFile, header: np.ndarray) -> np.ndarray:
    """FIELD (fields,), as many as the header announces. ValueError, naming the file, where it ends before."""
    size = int(header["num_fields"][0]) * FIELD.itemsize
    if HEADER.itemsize + size > opened.size:
        raise _truncated(opened, header)
    return opened.read(HEADER.itemsize, size).view(FIELD)


def _truncated(opened: OpenFile, header: np.ndarray) -> ValueError:
    announced = f"the {header['num_samples'][0]} samples that its header announces"
    return ValueError(f"{opened.path} is truncated: {opened.size} bytes do not hold {announced}")


def _reopened(path: Path, size: int, count: int, index: int | None) -> Beton:
    file = open_beton(path)
    if (file.opened.size, len(file), file.index) != (size, count, index):
        raise ValueError(f"{path} must be the file that it was when it was pickled, and is another")
    return file


def _fields(path: Path, descriptors: np.ndarray) -> tuple[tuple[str, str], ...]:
    """Name and kind of every field. ValueError for a type that FFCV does not have."""
    names = [one.tobytes().split(b"\0")[0].decode("ascii", "replace") for one in descriptors["name"]]
    for name, kind in zip(names, descriptors["type_id"], strict=True):
        if int(kind) not in FIELDS:
            raise ValueError(f"{path}: field {name!r} is of type {kind}; FFCV's types are 0 to {max(FIELDS)}")
    return tuple((name, FIELDS[int(kind)][0]) for name, kind in zip(names, descriptors["type_id"], strict=True))


def _chosen(path: Path, fields: tuple[tuple[str, str], ...], kind: str, name: str) -> int | None:
    """Where the field of that kind is: the only one, or of several the one of that name; None if there is none."""
    places = [place for place, (_, other) in enumerate(fields) if other == kind]
    named = [place for place in places if fields[place][0] == name]
    if len(places) > 1 and len(named) != 1:
        found = ", ".join(shown(fields[place][0]) for place in places)
        raise ValueError(f"{path} must hold one {kind} field, or one called {name}; it holds {found}")
    return next(iter(named or places), None)


def _of_pointers(path: Path, table: np.ndarray, pointers: np.ndarray) -> np.ndarray:
    """The allocation of each sample's image, which the pointer of its metadata row names.

    An empty one, as a caption without a letter has, may lie where the image begins.
    """
    table = table[table["size"] > 0]
    table = table[np.argsort(table["ptr"], kind="stable")]
    if not len(table):
        raise ValueError(f"{path} is damaged: no sample of it has a byte")
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
    """The checksums of the samples, that of the index once it agrees, and what the file was made of. FFCV's have none.

    FFCV fills the arguments of numbers and images with zeros: what else stands there was a seal.
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
    # As if nothing were said of the origin, which has a checksum of its own: equal samples have equal indexes.
    header = np.array(header)
    header["alloc_table_ptr"] = end
    if xxh64_of(header, descriptors, metadata, checksums, table) != seal["index"]:
        raise damaged
    return checksums, int(seal["index"]), _unpacked(opened, end, table_start)


def _packed(about: Mapping[str, Any]) -> bytes:
    """JSON, and its XXH64 behind it. ValueError for more than a reader takes."""
    content = json.dumps(about).encode("ascii")
    if len(content) > ABOUT_LIMIT:
        raise ValueError(f"a file's origin must take at most {ABOUT_LIMIT:,} bytes, got {len(content):,}")
    return content + xxh64_of(content).to_bytes(8, "little")


def _unpacked(opened: OpenFile, start: int, end: int) -> Mapping[str, Any]:
    if start == end:
        return {}
    damaged = ValueError(f"{opened.path} is damaged: what it was made of is not what was written")
    if not 8 < end - start <= ABOUT_LIMIT + 8:
        raise damaged
    content = opened.read(start, end - start).tobytes()
    text, checksum = content[:-8], int.from_bytes(content[-8:], "little")
    if xxh64_of(text) != checksum:
        raise damaged
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or brackets in brackets, thousands deep
        raise damaged from None
    if not isinstance(about, dict):
        raise damaged
    return about


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(array.tobytes(), np.uint8)


def _descriptors() -> np.ndarray:
    descriptors = np.zeros(2, FIELD)
    for row, (name, type_id) in zip(descriptors, [("image", IMAGE_FIELD), ("label", INT_FIELD)], strict=True):
        row["type_id"] = type_id
        row["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
    return descriptors


def check_fits(what: str, mode: int, height: int, width: int, size: int) -> None:
    """ValueError for an image that the format cannot hold. what: a sentence calls it so. size: its bytes in a page."""
    if not (0 < height < 1 << 16 and 0 < width < 1 << 16):
        raise ValueError(f"{what} is {width:,} x {height:,} pixels; the format takes 1 to 65,535 a side")
    if size > PAGE:
        found = f"{size:,} bytes" + (" as pixels" if mode == RAW else "")
        raise ValueError(f"{what} has {found}; a page holds {PAGE:,}: store it smaller with --max-resolution")


def _in_order(count: int, sample: Callable[[int], Stored], threads: int) -> Iterator[Callable[[], Stored]]:
    """The results of sample(0), sample(1), ..., to be called for, from a pool that runs at most a few samples ahead.

    None is begun before its turn while those that are done before theirs have WAITING bytes. No thread waits for room:
    it would wait forever where the caller goes no further.
    """
    ahead = 8 * threads
    turn = begun = running = 0  # whose turn it is, the next to begin, how many run
    done = gone = 0  # bytes of all that have run, and of those whose turn is over
    results: deque[Future[Stored]] = deque()
    lock = Lock()

    def begin() -> None:
        """What may be begun now. Called with the lock."""
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
                if running < threads:  # else whoever runs begins the next; where nobody has begun this one, nobody runs
                    with lock:
                        begin()
                future = results.popleft()
                failed = future.exception()  # waits
                yield future.result
                gone += 0 if failed else len(future.result().content)
        finally:
            with lock:
                begun = count
