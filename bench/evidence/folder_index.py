"""An index of a folder of evidence, with one row per file. It is kept in the folder as `index.csv`."""

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
# The columns. The first three tell whether a file has changed since it was indexed.
INDEXED = ["file", "bytes", "changed_ns", "name", "kind", "created", "machine", "recipe", "seed", "sha256", "complaint"]


def index(folder: Path) -> "pd.DataFrame":
    """Return the index of a folder of evidence: a table of text columns with one row per file.

    A row says which record the file holds or, in `complaint`, why the file is not a record. The table is cached in the
    folder as index.csv, and nothing depends on that cache. A file is read again only if it is not in the cache, or if
    its size or modification time has changed; rows of deleted files are dropped. Nothing is cached if the folder is not
    writable, or if index.csv is not a regular file.
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
    """Return a file's size in bytes and modification time in ns, as text; both are empty for a broken link."""
    try:
        about = path.stat()
    except OSError:
        return "", ""
    return str(about.st_size), str(about.st_mtime_ns)


def _entry(path: Path) -> dict[str, str]:
    """Return the columns of the index that are read from the file's content."""
    try:
        record = read(path)
    except (ValueError, OSError) as error:
        return {"complaint": reason(error)}
    columns = {key: "" if value is None else str(value) for key, value in whose(record).items()}
    return {key: columns[key] for key in INDEXED if key in columns} | {"sha256": record.sha256 or ""}
