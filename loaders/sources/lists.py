"""A list of image files: one path a line, with or without a label after a comma."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from twoview.loaders.datasets.samples import check_there, samples_from_files
from twoview.loaders.files import lines_of
from twoview.loaders.sources.source import Source, labeled

SUFFIXES = {".txt", ".csv", ".lst", ".list"}
HEADER = {"path", "file", "filename", "image"}  # a first line that begins with one of these names the columns


def open_list(file: Path) -> Source:
    """Return the images that a list names; a path is relative to the list's folder.

    Labels are whole numbers, or else names of classes, numbered in sorted order. A path with a comma stands in double
    quotes, as in CSV. Raises ValueError, naming the list and the line, for a line in another form, and
    FileNotFoundError, naming the list and the image, for the first image that does not exist.
    """
    files, given = [], []
    folder = os.path.join(file.parent, "")
    for number, row in enumerate(_rows(file), 1):
        path, label, *more = [cell.strip() for cell in row] + ["", ""][len(row) :]
        if not row or (number == 1 and path.lower() in HEADER):
            continue
        if more or not path:
            raise ValueError(f"{file}: line {number} must be a path, or a path, a comma and a label, got {row!r:.80}")
        files.append(path if path[0] == os.sep else folder + path)
        given.append(label)
    if not files:
        raise ValueError(f"{file} must name at least one image")
    check_there(files, str(file))
    try:
        labels, classes = labeled({"train": given})
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    kind = f"list of {'labeled ' if classes else ''}files"
    samples = samples_from_files(files, labels["train"], str(file))
    ignored = _repeated(files)
    return Source(str(file), kind, {"train": samples}, classes, files, ignored)


def _rows(file: Path) -> Iterator[list[str]]:
    """Yield the cells of each line."""
    try:
        yield from csv.reader(lines_of(file))
    except csv.Error as error:  # such as a cell of more than 128 KiB
        raise ValueError(f"{file} must be a list in CSV: {error}") from None


def _repeated(files: list[str]) -> tuple[str, ...]:
    """Return a sentence if some files are named several times: they are used several times."""
    count = len(files) - len(set(files))
    return (f"{count:,} lines name a file that an earlier line names; it is used again",) if count else ()
