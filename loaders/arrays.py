"""Betons of arrays: every field is FFCV's NDArray field, of one shape and dtype for all samples.

The layout is that of `loaders/beton.py`, whose `open_beton` reads images and labels alone. A sample's arrays lie side
by side in one page. The seal, one XXH64 of the whole file, stands at the end of the last field's arguments, behind
what FFCV reads of them; a file of FFCV's own has none.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from loaders.beton import ALLOCATION, FIELD, HEADER, PAGE, VERSION
from loaders.checksum import xxh64_of
from loaders.files import whole_file

ARRAY_FIELD = 4  # ffcv.types.TYPE_ID_HANDLER
ARGUMENTS = np.dtype([("shape", "<u8", 32), ("type_length", "<u8")])  # ffcv.fields.ndarray.NDArrayArgsType
SEAL = np.dtype([("magic", "S8"), ("checksum", "<u8")])
MAGIC = b"twoviewA"


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by field name, each (n, ...) with a sample a row; the file appears whole or not at all.

    ValueError, naming the field, for what the format cannot hold.
    """
    counts = {name: len(array) for name, array in arrays.items()}
    if not counts or len(set(counts.values())) != 1 or not all(counts.values()):
        raise ValueError(f"{path}: every field needs the same number of samples, at least 1; they have {counts}")
    count = next(iter(counts.values()))
    for name, array in arrays.items():
        if not name.isascii() or not 0 < len(name) <= 16:
            raise ValueError(f"{path}: a field's name has 1 to 16 ASCII characters, which {name!r} has not")
        if array.ndim < 2 or array[0].size == 0 or array.dtype.kind not in "biuf":
            raise ValueError(f"{path}: field {name} must hold an array of numbers a sample, not {array.dtype} scalars")
    rows = np.concatenate([np.ascontiguousarray(a).reshape(count, -1).view(np.uint8) for a in arrays.values()], axis=1)
    sizes = np.array([array[0].nbytes for array in arrays.values()])
    width = rows.shape[1]
    if width > PAGE:
        raise ValueError(f"{path}: a sample of {', '.join(arrays)} has {width:,} bytes; a page holds {PAGE:,}")

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
    """The arrays of a file of NDArray fields, ours or FFCV's, by field name: each (n, ...), in memory.

    FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no beton file at {path}")
    file = np.fromfile(path, np.uint8)
    if file.size < HEADER.itemsize:
        raise ValueError(f"{path} is no beton file: {file.size} bytes, and the header alone has {HEADER.itemsize}")
    header = file[: HEADER.itemsize].view(HEADER)[0]
    if header["version"] != VERSION:
        raise ValueError(f"{path} is no beton file of version {VERSION}: the header says {header['version']}")
    count, fields = int(header["num_samples"]), int(header["num_fields"])
    start = HEADER.itemsize + fields * FIELD.itemsize
    table_start, table_size = int(header["alloc_table_ptr"]), count * fields * ALLOCATION.itemsize
    if start + 8 * count * fields > file.size or table_start + table_size > file.size:
        raise ValueError(f"{path} is truncated: {file.size} bytes do not hold the {count} samples that it announces")
    descriptors = file[HEADER.itemsize : start].copy().view(FIELD)
    if fields == 0 or set(descriptors["type_id"]) != {ARRAY_FIELD}:
        raise ValueError(f"{path} must hold NDArray fields alone; its field types are {list(descriptors['type_id'])}")
    regions = file[start : start + 8 * count * fields].view("<u8").reshape(count, fields).astype(np.int64)
    arrays, rows = {}, []
    for descriptor, pointers in zip(descriptors, regions.T, strict=True):
        name = descriptor["name"].tobytes().rstrip(b"\0").decode("ascii", "replace")
        dtype, shape = _layout(path, name, descriptor["arguments"])
        size = dtype.itemsize * int(np.prod(shape))
        if (pointers < 0).any() or (pointers + size > file.size).any():
            raise ValueError(f"{path} is damaged: a sample of field {name} lies outside the file")
        row = np.stack([file[pointer : pointer + size] for pointer in pointers])
        rows.append(row)
        arrays[name] = row.view(dtype).reshape(count, *shape)
    last = descriptors[-1]["arguments"]
    seal = last[-SEAL.itemsize :].copy().view(SEAL)[0]
    if seal["magic"] == MAGIC:
        last[-SEAL.itemsize :] = 0
        table = file[table_start : table_start + table_size]
        if xxh64_of(header, descriptors, regions, np.concatenate(rows, axis=1), table) != seal["checksum"]:
            raise ValueError(f"{path} is damaged: its content is not what was written")
    return arrays


def _layout(path: Path, name: str, content: np.ndarray) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and shape of one sample's array."""
    arguments = content[: ARGUMENTS.itemsize].copy().view(ARGUMENTS)[0]
    text = content[ARGUMENTS.itemsize :][: int(arguments["type_length"])].tobytes()
    try:
        [(_, code)] = json.loads(text.decode("ascii"))
        dtype = np.dtype(code)
    except (ValueError, TypeError):
        raise ValueError(f"{path} is damaged: field {name} is of no dtype: {text[:40]!r}") from None
    return dtype, tuple(int(side) for side in arguments["shape"] if side)
