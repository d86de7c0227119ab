"""Files that appear whole or not at all, and the lines of others' lists."""

import errno
import glob
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a system says where a file cannot have a second name: on FAT, on SMB shares, in a bucket that is mounted.
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}

# A whole number in a list. Python takes other scripts' digits for one, too, and raises at thousands of them.
NUMBER = re.compile(r"[0-9]{1,18}")


def lines_of(path: Path) -> list[str]:
    """Of a text in UTF-8, with or without a byte-order mark, whatever the locale. ValueError, naming it, for others."""
    try:
        text = path.read_text("utf-8-sig").removesuffix("\n")
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
    """
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
