"""What a folder of evidence holds, a row a file, kept in the folder."""

import contextlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from twoview.bench.evidence.files import paths, read, reason
from twoview.bench.evidence.samples import whose
from twoview.bench.runtime.escapes import csv_cell, csv_value
from twoview.loaders.files import bytes_of, whole_file
from twoview.loaders.limits import RECORD_BYTES

if TYPE_CHECKING:
    import pandas as pd

INDEX = "index.csv"
INDEXED = ["file", "bytes", "changed_ns", "name", "kind", "created", "machine", "recipe", "seed", "sha256", "complaint"]


def index(folder: Path) -> "pd.DataFrame":
    """What a folder holds, a row a file: whose record, or `complaint`, why it is none. All columns are text.

    It is kept there as index.csv, which nothing depends on: a file that it lacks, or has with another size or time of
    change, is read, one that is gone is dropped. It is not kept where the folder cannot be written, or something else
    than a file has that name.
    """
    import pandas as pd

    kept, known = folder / INDEX, {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        before = pd.read_csv(BytesIO(bytes_of(kept, RECORD_BYTES)), dtype=str, keep_default_na=False)[INDEXED].map(
            csv_value
        )
        known = {tuple(row[key] for key in INDEXED[:3]): row for row in before.to_dict("records")}
    rows = []
    for path in paths(folder):
        key = (str(path.relative_to(folder)), *_changed(path))
        rows.append(known.get(key) or dict(zip(INDEXED, key, strict=False)) | _entry(path))
    now = pd.DataFrame(rows, columns=INDEXED, dtype=object).fillna("")
    if list(known.values()) != now.to_dict("records"):
        with contextlib.suppress(PermissionError, ValueError), whole_file(kept) as part:
            now.map(csv_cell).to_csv(part, index=False)
    return now


def _changed(path: Path) -> tuple[str, str]:
    """A file's size and time of change; empty where a link leads nowhere."""
    try:
        about = path.stat()
    except OSError:
        return "", ""
    return str(about.st_size), str(about.st_mtime_ns)


def _entry(path: Path) -> dict[str, str]:
    """A file's columns of the index."""
    try:
        record = read(path)
    except (ValueError, OSError) as error:
        return {"complaint": reason(error)}
    columns = {key: "" if value is None else str(value) for key, value in whose(record).items()}
    return {key: columns[key] for key in INDEXED if key in columns} | {"sha256": record.sha256 or ""}
