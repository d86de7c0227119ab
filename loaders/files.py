"""Atomic writing of files, and reading of untrusted files within limits."""

import errno
import glob
import io
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from twoview.loaders.limits import LIST_BYTES, Limit

# Errors of file systems without hard links: FAT, SMB shares, mounted object storage.
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}

# A whole number in a list file. Python's int() also accepts digits of other scripts, and raises at thousands of digits.
NUMBER = re.compile(r"[0-9]{1,18}")

PIPE = "a pipe or a device"  # the words of error messages for anything that is neither a file nor a folder


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, as a context manager.

    Its type is checked after it is open, so that it cannot be replaced between the check and the opening. A pipe, a
    device or anything else that is not a regular file is neither waited for nor read.
    Raises ValueError, naming the path, if it is not a regular file, and OSError if it cannot be opened.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path} must be a file, got {PIPE}")
        yield file


def bytes_of(path: Path, most: Limit) -> bytes:
    """Return a file's content. Raises ValueError, naming it, if it is not a regular file or larger than the limit."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        most.check(size, str(path))
        return file.read(size)


def lines_of(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file, with or without a byte-order mark, whatever the locale.

    Raises ValueError, naming the file, if it is not UTF-8 or has more than `limits.LIST_BYTES` bytes.
    """
    try:
        text = io.TextIOWrapper(io.BytesIO(bytes_of(path, LIST_BYTES)), "utf-8-sig").read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text in UTF-8: {error}") from None
    # Not splitlines, which also splits at other characters that a file's name may contain.
    return text.split("\n") if text else []


@contextmanager
def whole_file(path: Path, first: bool = False) -> Iterator[Path]:
    """Write a file atomically, as a context manager that yields a temporary path next to `path`.

    The temporary file is moved to `path` when the block ends, and removed if the block raises. Its content is flushed
    to the disk before the move, so that a power cut leaves either the old file or the new one. Temporary files that a
    killed process of this machine left for the same `path` are removed first.
    first: raise FileExistsError if `path` exists by then, whichever process made it, and leave that file alone.
    An OSError that names no file (such as a full disk's) or names the temporary file is raised again, naming `path`.
    Raises ValueError, before the block begins, if `path` exists and is not a file: moving to it would replace a device.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} must be a file, got {'a folder' if path.is_dir() else PIPE}")
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = f".{path.name}.{socket.gethostname()}"
    for stale in path.parent.glob(f"{glob.escape(mine)}.*.part"):
        # The name ends in .PID.part: no such process is running any more.
        if not Path("/proc", stale.suffixes[-2][1:]).exists():
            stale.unlink(missing_ok=True)
    temporary = path.with_name(f"{mine}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if first:
            _take_name(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically, as a context manager that yields an empty temporary folder next to `path`.

    The temporary folder is moved to `path` when the block ends, and removed if the block raises. What was at `path`
    until then is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        made = Path(scratch, "new")
        made.mkdir()
        yield made
        if path.exists():
            path.rename(Path(scratch, "old"))
        made.rename(path)


def _take_name(temporary: Path, path: Path) -> None:
    """Give the temporary file the name `path`. Unlike a move, this never replaces an existing file."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        path.touch(exist_ok=False)  # reserves the name against every other process
        os.replace(temporary, path)
