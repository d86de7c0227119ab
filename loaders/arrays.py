"""Beton files (FFCV's format) whose fields are all arrays: FFCV's NDArray field, of one shape and dtype per field.

The file has the layout described in `loaders/beton.py`, whose `open_beton` reads only images and labels. The arrays of
one sample lie side by side in one page. The file is sealed by one XXH64 checksum of its whole content. This seal is
stored at the end of the last field's arguments, behind the part that FFCV reads. A file that FFCV wrote has no seal.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from twoview.loaders.beton import ALLOCATION, FIELD, HEADER, PAGE, VERSION, read_descriptors, read_header
from twoview.loaders.checksum import xxh64_of
from twoview.loaders.files import whole_file
from twoview.loaders.limits import FIELD_BYTES
from twoview.loaders.names import quoted, shown
from twoview.loaders.reading import OpenFile

ARRAY_FIELD = 4  # the type number of an NDArray field in ffcv.types.TYPE_ID_HANDLER
ARGUMENTS = np.dtype([("shape", "<u8", 32), ("type_length", "<u8")])  # ffcv.fields.ndarray.NDArrayArgsType
SEAL = np.dtype([("magic", "S8"), ("checksum", "<u8")])
MAGIC = b"twoviewA"
MOST_FIELDS = np.iinfo(HEADER["num_fields"]).max
MOST_SIDES = ARGUMENTS["shape"].shape[0]  # the most dimensions that one sample's array can have
NUMBERS = re.compile(r"[<>|]?[biufc][0-9]{1,2}")  # numpy's codes for numeric dtypes, such as "<f4"


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a beton file with one array field per entry of `arrays`. The write is atomic.

    arrays: field name -> array (n, ...), whose first axis runs over the samples; n is the same for all.
    Raises ValueError, naming the field, for anything that the format cannot hold.
    """
    for name, array in arrays.items():
        if not isinstance(name, str) or not (name.isascii() and name.isprintable() and 0 < len(name) <= 16):
            raise ValueError(f"{path}: a field's name must have 1 to 16 printable ASCII characters, got {quoted(name)}")
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path}: field {name} must be a numpy array, got {type(array).__name__}")
        if not 2 <= array.ndim <= MOST_SIDES + 1 or 0 in array.shape[1:] or array.dtype.kind not in "biuf":
            found = f"{array.dtype} of shape {array.shape[1:]}"
            raise ValueError(f"{path}: field {name} must hold a non-empty numeric array for each sample, got {found}")
    counts = {name: len(array) for name, array in arrays.items()}
    if not counts or len(set(counts.values())) != 1 or not all(counts.values()):
        raise ValueError(f"{path}: every field needs the same number of samples, at least 1, got {counts}")
    count = next(iter(counts.values()))
    # One row of bytes per sample, with its arrays side by side.
    rows = np.concatenate([np.ascontiguousarray(a).reshape(count, -1).view(np.uint8) for a in arrays.values()], axis=1)
    sizes = np.array([array[0].nbytes for array in arrays.values()])
    width = rows.shape[1]
    if width > PAGE:
        raise ValueError(f"{path}: a sample of {', '.join(arrays)} must have at most {PAGE:,} bytes, got {width:,}")

    descriptors = np.zeros(len(arrays), FIELD)
    for row, (name, array) in zip(descriptors, arrays.items(), strict=True):
        row["type_id"] = ARRAY_FIELD
        row["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
        dtype = json.dumps(array.dtype.descr).encode("ascii")
        arguments = np.zeros((), ARGUMENTS)
        arguments["shape"][: array.ndim - 1] = array.shape[1:]
        arguments["type_length"] = len(dtype)
        content = arguments.tobytes() + dtype
        row["arguments"][: len(content)] = np.frombuffer(content, np.uint8)

    # `first` is the first page of samples, `a_page` the number of samples per page: no sample crosses a page.
    start = HEADER.itemsize + descriptors.nbytes + 8 * count * len(arrays)
    first, a_page = -(-start // PAGE), PAGE // width
    sample = np.arange(count)
    pointers = (first + sample // a_page) * PAGE + sample % a_page * width
    regions = pointers[:, None] + np.cumsum(sizes) - sizes
    table = np.zeros(regions.size, ALLOCATION)
    table["sample_id"], table["ptr"] = np.repeat(sample, len(sizes)), regions.ravel()
    table["size"] = np.tile(sizes, count)
    end = (first + -(-count // a_page)) * PAGE
    header = np.array((VERSION, len(arrays), PAGE, count, end), HEADER)
    seal = np.array((MAGIC, xxh64_of(header, descriptors, regions, rows, table)), SEAL)
    descriptors[-1]["arguments"][-SEAL.itemsize :] = np.frombuffer(seal.tobytes(), np.uint8)
    with whole_file(path) as part, open(part, "wb") as file:
        file.write(header.tobytes() + descriptors.tobytes() + regions.astype("<u8").tobytes())
        for page, sample_number in enumerate(range(0, count, a_page), first):
            file.seek(page * PAGE)
            file.write(rows[sample_number : sample_number + a_page].tobytes())
        file.seek(end)
        file.write(table.tobytes())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a file of NDArray fields that `write_arrays` or FFCV wrote, and return field name -> array (n, ...).

    If the file has a seal, every bit that is read is checked against it. The arrays take no more memory than the file
    has bytes.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    opened = OpenFile(path)
    header = read_header(opened)
    descriptors = read_descriptors(opened, header)
    kinds = descriptors["type_id"].tolist()
    if set(kinds) != {ARRAY_FIELD}:
        raise ValueError(f"{path} must hold only NDArray fields (type 4), got the types {sorted(set(kinds))}")
    seal = _seal(opened, descriptors)
    layouts = _layouts(path, descriptors)
    count, table_start = int(header["num_samples"][0]), int(header["alloc_table_ptr"][0])
    sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in layouts.values()]
    table_size, start = count * len(sizes) * ALLOCATION.itemsize, HEADER.itemsize + descriptors.nbytes
    if start + count * (8 * len(sizes) + sum(sizes)) > opened.size or table_start + table_size > opened.size:
        raise ValueError(
            f"{path} is truncated: its {opened.size} bytes cannot hold the {count} samples that its header announces"
        )
    regions = opened.read(start, 8 * count * len(sizes)).view("<u8").reshape(count, len(sizes))
    fields = []
    for name, size, pointers in zip(layouts, sizes, regions.T, strict=True):
        if size > opened.size or (pointers > opened.size - size).any():
            raise ValueError(f"{path} is damaged: a sample of field {shown(name)} lies outside the file")
        fields.append(_gathered(opened, pointers, size, sum(sizes)))
    if seal is not None:
        table, rows = opened.read(table_start, table_size), np.concatenate(fields, axis=1)
        if xxh64_of(header, descriptors, regions, rows, table) != seal:
            raise _damaged(path)
    arrays = zip(layouts.items(), fields, strict=True)
    return {name: rows.view(dtype).reshape(count, *shape) for (name, (dtype, shape)), rows in arrays}


def _gathered(opened: OpenFile, pointers: np.ndarray, size: int, width: int) -> np.ndarray:
    """Return the `size` bytes at each of the n pointers, as uint8 (n, size).

    width: bytes of all arrays of one sample, which lie side by side. Pointers that are `width` bytes apart are read
    together, about one page at a time.
    """
    rows = np.empty((len(pointers), size), np.uint8)
    ends = [*(np.flatnonzero(np.diff(pointers) != width) + 1).tolist(), len(pointers)]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):  # a run of samples without gaps between them
        for first in range(start, end, step := max(PAGE // width, 1)):
            count = min(step, end - first)
            block = opened.read(int(pointers[first]), (count - 1) * width + size)
            rows[first : first + count] = as_strided(block, (count, size), (width, 1))
    return rows


def _seal(opened: OpenFile, descriptors: np.ndarray) -> int | None:
    """Return the checksum stored in the last descriptor, or None if the file was never sealed.

    The seal's bytes in `descriptors` are set to zero, as they were when the checksum was computed.
    Where the seal is depends on the number of fields, and that number itself may be damaged. So a seal in any other
    descriptor, even in one that the header does not count, means damage. FFCV fills the unused rest of the arguments
    with zeros, so anything else there means damage, too. Raises ValueError for a damaged file.
    """
    last = descriptors[-1]["arguments"]
    seal = last[-SEAL.itemsize :].copy().view(SEAL)[0]
    if seal["magic"] == MAGIC:
        last[-SEAL.itemsize :] = 0
    for row in descriptors["arguments"]:
        used = ARGUMENTS.itemsize + int(row[: ARGUMENTS.itemsize].copy().view(ARGUMENTS)[0]["type_length"])
        if row[used:].any():
            raise _damaged(opened.path)
    if seal["magic"] == MAGIC:
        return int(seal["checksum"])
    behind = HEADER.itemsize + descriptors.nbytes
    rows = min((opened.size - behind) // FIELD.itemsize, MOST_FIELDS)
    uncounted = opened.read(behind, rows * FIELD.itemsize).view(FIELD)["arguments"][:, -SEAL.itemsize :]
    if (uncounted[:, : len(MAGIC)] == np.frombuffer(MAGIC, np.uint8)).all(axis=1).any():
        raise _damaged(opened.path)
    return None


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is damaged: its content is not what was written")


def _layouts(path: Path, descriptors: np.ndarray) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Return field name -> (dtype, shape) of one sample's array.

    Raises ValueError for a field without a valid dtype and shape, and for two fields with the same name.
    """
    layouts = {}
    for descriptor in descriptors:
        name = descriptor["name"].tobytes().rstrip(b"\0").decode("ascii", "replace")
        if name in layouts:
            raise ValueError(f"{path} must hold fields with different names, got {shown(name)} twice")
        layouts[name] = _layout(path, name, descriptor["arguments"])
    return layouts


def _layout(path: Path, name: str, content: np.ndarray) -> tuple[np.dtype, tuple[int, ...]]:
    """Return (dtype, shape) of one sample's array. content: the arguments in the field's descriptor, uint8 (1024,)."""
    arguments = content[: ARGUMENTS.itemsize].copy().view(ARGUMENTS)[0]
    text = content[ARGUMENTS.itemsize :][: int(arguments["type_length"])].tobytes()
    try:
        [(_, code)] = json.loads(text.decode("ascii"))
        if not NUMBERS.fullmatch(code):
            raise ValueError
        dtype = np.dtype(code)
    except (ValueError, TypeError, RecursionError):
        raise ValueError(
            f"{path} is damaged: field {shown(name)} must be of numbers, got the dtype {text[:40]!r}"
        ) from None
    # FFCV fills the shape with zeros up to 32 entries: a number behind the first zero is damage.
    sides = arguments["shape"].tolist()
    shape = tuple(sides[: sides.index(0)] if 0 in sides else sides)
    if any(sides[len(shape) :]):
        raise ValueError(f"{path} is damaged: field {shown(name)} must have a shape, got {sides}")
    FIELD_BYTES.check(dtype.itemsize * math.prod(shape), f"{path}: a sample of field {shown(name)}")
    return dtype, shape
