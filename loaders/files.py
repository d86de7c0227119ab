"""Files that appear whole or not at all, and the content of others'."""

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
from typing import BinaryIO

from twoview.loaders.limits import LIST_BYTES, Limit

# What a system says where a file cannot have a second name: on FAT, on SMB shares, in a bucket that is mounted.
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}

# A whole number in a list. Python takes other scripts' digits for one, too, and raises at thousands of them.
NUMBER = re.compile(r"[0-9]{1,18}")

PIPE = "a pipe or a device"  # what is no file and no folder, in a sentence


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file, to be read. It is asked what it is once it is open, so that nothing comes in between.

    A pipe is neither waited for nor read, nor is anything else that is no file: ValueError, naming it, or OSError.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path} must be a file, and is {PIPE}")
        yield file


def bytes_of(path: Path, most: Limit) -> bytes:
    """All that a file has. ValueError, naming it, for what is no file, and for one of more bytes than the limit."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        most.check(size, str(path))
        return file.read(size)


def lines_of(path: Path) -> list[str]:
    """Of a text in UTF-8, with or without a byte-order mark, whatever the locale. ValueError, naming it, for others.

    Nor may it have more bytes than `limits.LIST_BYTES`.
    """
    try:
        text = io.TextIOWrapper(io.BytesIO(bytes_of(path, LIST_BYTES)), "utf-8-sig").read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text in UTF-8: {error}") from None
    return text.split("\n") if text else []  # not by splitlines: a file's name may hold what else it takes for an end


@contextmanager
def whole_file(path: Path, first: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; moves it into place when the block ends, removes it when the block raises.

    The content is flushed to the disk before the move, so that a power cut leaves the old file or the new one.
    first: FileExistsError where `path` is there by then, whichever process made it, and that file is left alone.
    What a killed process of this machine left behind for the same `path` is removed first.
    An OSError that names no file, as a full disk's does, or the temporary one, is raised naming `path`.
    ValueError, before the block begins, where `path` is there and no file: a move would take the place of a device.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} must be a file, and is {'a folder' if path.is_dir() else PIPE}")
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = f".{path.name}.{socket.gethostname()}"
    for stale in path.parent.glob(f"{glob.escape(mine)}.*.part"):
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


def _take_name(temporary: Path, path: Path) -> None:
    """Unlike a move it never takes the place of a file."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        path.touch(exist_ok=False)  # holds the name against every other process
        os.replace(temporary, path)
