"""Files that are read by place, by any thread, while others may change them."""

import os
import stat
import weakref
from pathlib import Path

import numpy as np


class OpenFile:
    """A regular file, open for reading until nothing refers to it.

    Its bytes are read and not mapped: a touch of a map where the file was cut since ends the whole process.
    path: its own. descriptor: the system's number of it. size: bytes it had when it was opened.
    FileNotFoundError, or another OSError, naming the path.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():  # before it is opened, which would wait where it is a pipe
            raise FileNotFoundError(f"no beton file at {path}")
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        weakref.finalize(self, os.close, self.descriptor).atexit = False
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(f"no beton file at {path}")
        self.size = status.st_size

    def read(self, start: int, size: int) -> np.ndarray:
        """uint8 (size,), of memory of its own. ValueError, naming the file, where it ends before."""
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
