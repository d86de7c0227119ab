"""Images in tables: Parquet files, and folders that the Hugging Face library `datasets` saved (Arrow files)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twoview.loaders.datasets.samples import Samples, as_stored
from twoview.loaders.errors import reason
from twoview.loaders.names import shown
from twoview.loaders.sources.source import TRAIN, Source, by_split, choose, labeled
from twoview.loaders.storage import PLAIN, Storage

IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png")  # of several columns with images, the first so named is taken
LABEL_NAMES = ("label", "labels", "class", "cls", "target", "y", "fine_label")  # columns that may hold the labels
ROWS = 32  # rows of a Parquet file that are read at a time; four times as many are kept


class Columns(NamedTuple):
    """The columns of a table that are used, and those that are not.

    image: of images, as the bytes of image files. nested: whether it is a struct with a field `bytes`, as `datasets`
    makes it. label: None if there are no labels. names: of the classes, None if the table does not give them.
    """

    image: str
    nested: bool
    label: str | None
    names: list[str] | None
    others: tuple[str, ...]


def open_parquet(path: str, files: Sequence[Path]) -> Source:
    """Return the images in Parquet files. Splits are known by the names of files and folders, as on the hub.

    One column holds the bytes of image files. Labels are whole numbers or text.
    Raises ValueError, naming the file, if there is no such column, or the files differ.
    """
    root = Path(path) if Path(path).is_dir() else Path(path).parent
    parts = by_split(files, root)
    opened = {file: _parquet(file) for file in files}
    columns = _columns_of([(file, one.schema_arrow) for file, one in opened.items()])

    def labels(file: Path) -> pa.ChunkedArray | None:
        return opened[file].read(columns=[columns.label]).column(0) if columns.label else None

    rows = {file: one.metadata.num_rows for file, one in opened.items()}
    tables = {name: [_Table(file, rows[file], labels(file)) for file in some] for name, some in parts.items()}
    readers = {name: _in_parquet(some, [opened[file] for file in some], columns) for name, some in parts.items()}
    return _source(path, "Parquet", columns, tables, readers, list(map(str, files)))


def is_saved(folder: Path) -> bool:
    """Return whether `datasets` saved the folder: a dataset, or a dictionary of its splits."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def open_saved(folder: Path) -> Source:
    """Return the images in a folder that `save_to_disk` of the library `datasets` wrote.

    Raises ValueError, naming the file, if it is damaged, has no column of images, or no split for training.
    """
    parts = {"train": folder}
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits")
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"{folder / 'dataset_dict.json'} must have a list of splits, got {str(names)[:80]}")
        if not {name.lower() for name in names} & {*TRAIN}:
            raise ValueError(f"{folder} must have a split named train, got {', '.join(names) or 'none'}")
        parts = {name: folder / _plain_name(folder, name) for name in names}
    files = {name: _data_files(part) for name, part in parts.items()}
    opened = {name: pa.concat_tables([_arrow(file) for file in some]) for name, some in files.items()}
    columns = _columns_of([(parts[name], table.schema) for name, table in opened.items()])
    tables = {
        name: [_Table(parts[name], table.num_rows, table.column(columns.label) if columns.label else None)]
        for name, table in opened.items()
    }
    readers = {name: _in_arrow(table, columns) for name, table in opened.items()}
    return _source(
        str(folder), "saved dataset", columns, tables, readers, [str(f) for some in files.values() for f in some]
    )


def _data_files(folder: Path) -> list[Path]:
    """Return the Arrow files of a saved dataset, in order."""
    named = _json(folder / "state.json").get("_data_files")
    if not (isinstance(named, list) and named and all(isinstance(one, dict) for one in named)):
        raise ValueError(f"{folder / 'state.json'} must have a list of data files, got {str(named)[:80]}")
    return [folder / _plain_name(folder, one.get("filename")) for one in named]


def _plain_name(folder: Path, name: Any) -> str:
    """Return a name of something directly in a folder. Raises ValueError if it may lead elsewhere."""
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"{folder} must name files in this folder, got {str(name)[:80]!r}")
    return name


class _Table(NamedTuple):
    """A part of a split: where it is, the number of its rows, and its column of labels, if it has one."""

    path: Path
    rows: int
    labels: pa.ChunkedArray | None


def _source(
    path: str,
    kind: str,
    columns: Columns,
    tables: dict[str, list[_Table]],
    readers: dict[str, Callable[[int], bytes]],
    files: list[str],
) -> Source:
    """Return the source of tables, by the names of their splits."""
    given = {name: _column(path, some) for name, some in tables.items()}
    used, notes = choose({name: _any_label(some) for name, some in given.items()})
    try:
        labels, classes = labeled({split: given[name] for split, name in used.items()}, columns.names)
    except ValueError as error:
        raise ValueError(f"{path}: column {shown(str(columns.label))}: {error}") from None
    splits = {
        split: _samples(f"{path}, {name}", readers[name], labels[split], [(one.path, one.rows) for one in tables[name]])
        for split, name in used.items()
    }
    if others := ", ".join(map(shown, columns.others)):
        notes.append(f"ignored: the columns {others}")
    return Source(path, kind, splits, classes, files, tuple(notes))


def _any_label(given: np.ndarray | list[str | None]) -> bool:
    return bool((given >= 0).any()) if isinstance(given, np.ndarray) else any(given)


def _samples(
    source: str, read: Callable[[int], bytes], labels: np.ndarray, places: Sequence[tuple[Path, int]]
) -> Samples:
    """Return samples whose files' bytes `read` returns. places: where the rows are, with their numbers."""
    ends = np.cumsum([rows for _, rows in places])

    def place(index: int) -> str:
        number = int(np.searchsorted(ends, index, "right"))
        return f"{places[number][0]}/{index - int(ends[number]) + places[number][1]}"

    def image(index: int, storage: Storage = PLAIN) -> np.ndarray | bytes:
        return as_stored(read(index), f"row {index} of {source}", storage)

    return Samples(image, labels, source, large=image, place=place)


def _column(path: str, tables: list[_Table]) -> np.ndarray | list[str | None]:
    """Return the labels of a split, as whole numbers (N,) or as texts; without labels, -1 for each row."""
    parts: list[Any] = []
    for one in tables:
        if one.labels is None:
            return np.full(sum(one.rows for one in tables), -1, np.int64)
        column = one.labels
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        try:
            whole = pa.types.is_integer(column.type)
            parts.append(column.cast(pa.int64()).fill_null(-1).to_numpy() if whole else column.to_pylist())
        except pa.ArrowInvalid as error:
            raise ValueError(f"{one.path}: labels must be below 2 ** 63: {reason(error)}") from None
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return [None if one is None else str(one) for part in parts for one in part]


def _columns_of(schemas: Sequence[tuple[Path, pa.Schema]]) -> Columns:
    """Return the columns to use. Raises ValueError, naming the file, if they are not clear or differ among files."""
    found = {file: _columns(file, schema) for file, schema in schemas}
    first = next(iter(found))
    for file, columns in found.items():
        if columns[:4] != found[first][:4]:
            raise ValueError(
                f"{file} must have the same columns of images and labels, and the same classes, as {first}"
            )
    return found[first]


def _columns(file: Path, schema: pa.Schema) -> Columns:
    """Return the columns of one table. `datasets` describes the columns in the schema's metadata."""
    features = _features(schema)
    images = [one.name for one in schema if _holds_bytes(one.type)]
    chosen = (
        next((name for name in IMAGE_NAMES if name in images), None) if len(images) > 1 else next(iter(images), None)
    )
    if chosen is None:
        found = ", ".join(shown(name) for name in images or schema.names) or "none"
        raise ValueError(
            f"{file} must have one column with the bytes of images, or one named image, "
            f"got {'several' if images else 'the columns'}: {found}"
        )
    label = next(
        (name for name, kind in features.items() if kind.get("_type") == "ClassLabel" and name in schema.names), None
    )
    label = label or next(
        (one.name for name in LABEL_NAMES for one in schema if one.name == name and _labels(one.type)), None
    )
    names = features.get(str(label), {}).get("names")
    others = tuple(name for name in schema.names if name not in (chosen, label))
    nested = pa.types.is_struct(schema.field(chosen).type)
    return Columns(chosen, nested, label, [str(name) for name in names] if isinstance(names, list) else None, others)


def _holds_bytes(kind: pa.DataType) -> bool:
    """Return whether a column of this type may hold the bytes of image files."""
    if pa.types.is_struct(kind):
        return any(one.name == "bytes" and _holds_bytes(one.type) for one in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _labels(kind: pa.DataType) -> bool:
    """Return whether a column of this type may hold labels: whole numbers or text."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return how `datasets` describes each column; empty if another program wrote the table."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return (
        {str(name): one for name, one in described.items() if isinstance(one, dict)}
        if isinstance(described, dict)
        else {}
    )


def _bytes(value: Any) -> bytes:
    """Return the bytes of an image; empty if the row has none, but only the path of a file elsewhere."""
    return bytes(value or b"")


def _in_arrow(table: pa.Table, columns: Columns) -> Callable[[int], bytes]:
    """Return a function from a row's number to the bytes of its image. The table is mapped into memory, not read."""
    column = table.column(columns.image)

    def read(index: int) -> bytes:
        value = column[index].as_py()
        return _bytes(value["bytes"] if columns.nested and value else value)

    return read


def _in_parquet(files: Sequence[Path], opened: Sequence[pq.ParquetFile], columns: Columns) -> Callable[[int], bytes]:
    """Return a function from a row's number to the bytes of its image.

    Parquet is read from front to back. The last rows are kept, since threads ask for rows in nearly the right order; a
    row before them is found by starting again.
    """
    ends = np.cumsum([one.metadata.num_rows for one in opened])
    lock, kept = Lock(), _Rows(files, opened, columns)

    def read(index: int) -> bytes:
        with lock:
            file = int(np.searchsorted(ends, index, "right"))
            return kept.at(file, index - int(ends[file] - opened[file].metadata.num_rows))

    return read


class _Rows:
    """The rows of Parquet files around the last one that was asked for."""

    def __init__(self, files: Sequence[Path], opened: Sequence[pq.ParquetFile], columns: Columns) -> None:
        self.files, self.opened, self.columns = files, opened, columns
        self.place: tuple[int, int] = (-1, 0)  # the file that is read, and the number of its rows that have been read
        self.batches: Any = iter(())
        self.rows: dict[tuple[int, int], Any] = {}

    def at(self, file: int, row: int) -> bytes:
        """Return the bytes in a row of a file."""
        if (file, row) not in self.rows and (file != self.place[0] or row < self.place[1]):
            name = f"{self.columns.image}.bytes" if self.columns.nested else self.columns.image
            self.batches = self.opened[file].iter_batches(ROWS, columns=[name])
            self.place = file, 0
        while (file, row) not in self.rows:
            try:
                column = next(self.batches).column(0)
            except (StopIteration, OSError, pa.ArrowException) as error:
                raise ValueError(f"{self.files[file]} is damaged at row {row}: {reason(error)}") from None
            values = column.field("bytes") if self.columns.nested else column
            start = self.place[1]
            self.rows |= {(file, start + number): value for number, value in enumerate(values.to_pylist())}
            self.place = file, start + len(values)
            for old in list(self.rows)[: -4 * ROWS]:
                del self.rows[old]
        return _bytes(self.rows[file, row])


def _parquet(file: Path) -> pq.ParquetFile:
    """Open a Parquet file. Raises ValueError, naming it, if it is none."""
    try:
        return pq.ParquetFile(file, memory_map=False, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {reason(error)}") from None


def _arrow(file: Path) -> pa.Table:
    """Open one Arrow file of a saved dataset, mapped into memory. Raises ValueError, naming it, if it is damaged."""
    try:
        return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Arrow: {reason(error)}") from None


def _json(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file. Raises ValueError, naming it, if it is not an object."""
    try:
        content = json.loads(file.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {reason(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object")
    return content
