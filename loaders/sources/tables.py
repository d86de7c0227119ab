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
from twoview.loaders.sources.source import SPLITS, Source, by_split, numbered
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
    """Return the images in Parquet files. Splits are known by the names of the files, as on the Hugging Face hub.

    One column holds the bytes of image files. Labels are whole numbers or text.
    Raises ValueError, naming the file, if there is no such column, or the files differ.
    """
    splits = by_split(files)
    opened = {split: [_parquet(file) for file in some] for split, some in splits.items()}
    columns = _columns_of(
        [(file, one.schema_arrow) for split in splits for file, one in zip(splits[split], opened[split], strict=True)]
    )
    tables = {
        split: (
            [one.read(columns=[columns.label]).column(0) for one in some] if columns.label else [],
            [(file, one.metadata.num_rows) for file, one in zip(splits[split], some, strict=True)],
        )
        for split, some in opened.items()
    }
    readers = {split: _in_parquet(some, opened[split], columns) for split, some in splits.items()}
    return _source(path, "Parquet", columns, tables, readers, list(map(str, files)))


def is_saved(folder: Path) -> bool:
    """Return whether `datasets` saved the folder: a dataset, or a dictionary of its splits."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def open_saved(folder: Path) -> Source:
    """Return the images in a folder that `save_to_disk` of the library `datasets` wrote.

    Raises ValueError, naming the file, if it is damaged, has no column of images, or no split for training.
    """
    parts = {folder: "train"}
    ignored: list[str] = []
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits", [])
        known = {str(name): SPLITS.get(str(name).lower()) for name in names}
        ordered = sorted(
            (name for name, split in known.items() if split), key=lambda name: list(SPLITS).index(name.lower())
        )
        parts = {}
        for name in ordered:
            if known[name] in parts.values():
                continue
            parts[folder / name] = str(known[name])
        ignored = [f"{folder / name} is not used" for name in known if folder / name not in parts]
        if "train" not in parts.values():
            raise ValueError(f"{folder} must have a split named train, got {', '.join(known) or 'none'}")
    tables, files = {}, []
    for part, split in parts.items():
        named = [part / str(one.get("filename")) for one in _json(part / "state.json").get("_data_files", [])]
        files += [str(file) for file in named]
        tables[split] = pa.concat_tables([_arrow(file) for file in named])
    first = next(iter(tables.values()))
    columns = _columns_of([(part, tables[split].schema) for part, split in parts.items()])
    labels = {
        split: ([tables[split].column(columns.label)] if columns.label else [], [(part, tables[split].num_rows)])
        for part, split in parts.items()
    }
    readers = {split: _in_arrow(table, columns) for split, table in tables.items()}
    assert first.num_columns
    return _source(str(folder), "saved dataset", columns, labels, readers, files, ignored)


def _source(
    path: str,
    kind: str,
    columns: Columns,
    tables: dict[str, tuple[list[Any], list[tuple[Path, int]]]],
    readers: dict[str, Callable[[int], bytes]],
    files: list[str],
    ignored: Sequence[str] = (),
) -> Source:
    """Return the source of tables.

    tables: split -> parts of its column of labels; and where its rows are, with their numbers.
    """
    given = {split: _plain(parts, sum(rows for _, rows in places)) for split, (parts, places) in tables.items()}
    try:
        labels, classes = _numbers(given, columns.names)
    except ValueError as error:
        raise ValueError(f"{path}: column {shown(str(columns.label))}: {error}") from None
    splits = {
        split: _samples(f"{path}, {split}", readers[split], labels[split], places)
        for split, (_, places) in tables.items()
    }
    others = ", ".join(map(shown, columns.others))
    notes = (*ignored, *([f"ignored: the columns {others}"] if others else []))
    return Source(path, kind, splits, classes, files, notes)


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


def _plain(parts: list[Any], rows: int) -> np.ndarray:
    """Return a column of labels as an array of whole numbers or of text; without labels, -1 for each row."""
    if not parts:
        return np.full(rows, -1, np.int64)
    values = pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_integer(values.type):
        return values.cast(pa.int64()).fill_null(-1).to_numpy()
    return np.array(values.to_pylist(), object)


def _numbers(given: dict[str, np.ndarray], names: list[str] | None) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the labels of each split as class numbers, and the names of the classes. A missing label becomes -1."""
    if all(one.dtype != object for one in given.values()):
        return given, numbered(np.concatenate(list(given.values())), names)
    classes = sorted({str(one) for some in given.values() for one in some if one is not None})
    numbers: dict[Any, int] = {name: number for number, name in enumerate(classes)} | {None: -1}
    return {split: np.array([numbers[one] for one in some], np.int64) for split, some in given.items()}, tuple(classes)


def _columns_of(schemas: Sequence[tuple[Path, pa.Schema]]) -> Columns:
    """Return the columns to use. Raises ValueError, naming the file, if they are not clear or differ among files."""
    found = {file: _columns(file, schema) for file, schema in schemas}
    first = next(iter(found))
    for file, columns in found.items():
        if columns[:3] != found[first][:3]:
            raise ValueError(f"{file} must have the same columns of images and labels as {first}")
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
        return pq.ParquetFile(file, memory_map=True, pre_buffer=False)
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
