"""A list of image files: one path a line, with or without a label after a comma."""

import csv
import os
from pathlib import Path

import numpy as np

from twoview.loaders.datasets.samples import check_there, samples_from_files
from twoview.loaders.files import NUMBER, lines_of
from twoview.loaders.sources.source import Source, numbered

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
    for number, row in enumerate(csv.reader(lines_of(file)), 1):
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
    labels, classes = _labels(given)
    kind = f"list of {'labeled ' if classes else ''}files"
    samples = samples_from_files(files, labels, str(file))
    ignored = _repeated(files)
    return Source(str(file), kind, {"train": samples}, classes, files, ignored)


def _labels(given: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the labels, int64 (N,), and the names of the classes. An empty label becomes -1."""
    names = sorted(set(given) - {""})
    if all(NUMBER.fullmatch(name) for name in names):
        labels = np.array([int(one) if one else -1 for one in given], np.int64)
        return labels, numbered(labels)
    numbers = {name: number for number, name in enumerate(names)} | {"": -1}
    return np.array([numbers[one] for one in given], np.int64), tuple(names)


def _repeated(files: list[str]) -> tuple[str, ...]:
    """Return a sentence if some files are named several times: they are used several times."""
    count = len(files) - len(set(files))
    return (f"{count:,} lines name a file that an earlier line names; it is used again",) if count else ()
