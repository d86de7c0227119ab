"""Files that any thread can read at any position, and that other programs may change meanwhile."""

import os
import stat
import weakref
from pathlib import Path

import numpy as np


class OpenFile:
    """A regular file that stays open for reading until nothing refers to this object.

    It is not mapped into memory: if a mapped file is cut short, an access to the missing part ends the process.
    path: the file. descriptor: its file descriptor. size: its number of bytes when it was opened.
    Raises FileNotFoundError, or another OSError, naming the path.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():  # checked before it is opened, since opening a pipe would wait
            raise FileNotFoundError(f"no beton file at {path}")
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        weakref.finalize(self, os.close, self.descriptor).atexit = False
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(f"no beton file at {path}")
        self.size = status.st_size

    def read(self, start: int, size: int) -> np.ndarray:
        """Return the `size` bytes from `start` on, uint8 (size,), in new memory.

        Raises ValueError, naming the file, if it ends before that.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise ValueError(f"{self.path} is damaged: bytes {start:,} to {start + size:,} lie outside the file")
        content = np.empty(size, np.uint8)
        view, done = memoryview(content.data), 0
        while done < size:
            count = os.preadv(self.descriptor, [view[done:]], start + done)
            if count == 0:
                raise ValueError(f"{self.path} has been cut since it was opened: it had {self.size:,} bytes")
            done += count
        return content
