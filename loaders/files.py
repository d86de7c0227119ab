"""A file appears whole or not at all."""

import glob
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, first: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; moves it into place when the block ends, removes it when the block raises.

    The content is flushed to the disk before the move, so that a power cut leaves the old file or the new one.
    first: FileExistsError where `path` is there by then, whichever process made it, and that file is left alone.
    What a killed process of this machine left behind for the same `path` is removed first.
    An OSError of the block that names no file, as a full disk's does, is raised naming `path`.
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
            os.link(temporary, path)  # unlike a move it never takes the place of a file
        else:
            os.replace(temporary, path)
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
