"""Images of your own: what lies at a path, and how to read it.

`open_source` takes a folder, a list of files, Parquet files, a folder that the Hugging Face library `datasets` saved,
or the tar shards of WebDataset. A file does one of them each. A beton needs none of this: `loaders/beton.py` opens it.
"""

import glob
from pathlib import Path

from twoview.loaders.sources import folders, lists, shards
from twoview.loaders.sources.source import Source

__all__ = ["SUFFIXES", "TAKEN", "Source", "open_source"]

SUFFIXES = {".parquet", ".tar", *lists.SUFFIXES}  # of files that `open_source` opens
TAKEN = (
    "a folder of images, a list of image files (.txt, .csv), Parquet files, tar shards of WebDataset, "
    "or a folder that the library `datasets` saved"
)


def open_source(path: str) -> Source:
    """Return what lies at a path; no image is read yet.

    path: a folder or a file, or several files of one kind by a pattern, such as `shards/{000..009}.tar` or `*.parquet`.
    Raises FileNotFoundError if there is nothing, and ValueError, naming the file, if it is none of what can be read.
    """
    found = _files(path)
    if found[0].is_dir():
        return _in_folder(found[0])
    kinds = {one.suffix.lower() for one in found}
    if kinds == {".parquet"}:
        from twoview.loaders.sources import tables  # here, since a machine that only measures need not have pyarrow

        return tables.open_parquet(path, found)
    if kinds == {".tar"}:
        return shards.open_shards(path, found)
    if len(found) == 1 and kinds <= lists.SUFFIXES:
        return lists.open_list(found[0])
    raise ValueError(f"{path} must be {TAKEN}")


def _files(path: str) -> list[Path]:
    """Return the folder, the file or the files that a path or a pattern names. All of several are files."""
    if Path(path).exists():
        return [Path(path)]
    from braceexpand import braceexpand  # here for the same reason

    try:
        named = list(braceexpand(path))
    except ValueError:  # braces that are not closed
        named = [path]
    found = [Path(file) for one in named for file in (sorted(glob.glob(one)) if glob.has_magic(one) else [one])]
    if not found or (absent := next((one for one in found if not one.is_file()), None)):
        missing = f": {absent} does not exist" if found and str(absent) != path else ""
        raise FileNotFoundError(f"there is no file or folder at {path}{missing}")
    return found


def _in_folder(folder: Path) -> Source:
    """Return what a folder holds: a saved dataset, images, or else Parquet files or tar shards."""
    from twoview.loaders.sources import tables

    if tables.is_saved(folder):
        return tables.open_saved(folder)
    try:
        return folders.open_folder(folder)
    except FileNotFoundError:  # no image
        for suffix, opened in ((".parquet", tables.open_parquet), (".tar", shards.open_shards)):
            found = [one for one in sorted(folder.rglob(f"*{suffix}")) if one.is_file()]
            if files := [one for one in found if not any(part[0] == "." for part in one.relative_to(folder).parts)]:
                return opened(str(folder), files)
        raise
