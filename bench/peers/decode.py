"""libjpeg-turbo alone: each JPEG is decoded once into a buffer of its thread, and nothing else is done.

Its rate is a ceiling for every contestant.
"""

import ctypes
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from twoview.bench.peers.job import Job
from twoview.loaders import turbojpeg
from twoview.loaders.beton import JPEG, open_beton

RGB, ACCURATE_DCT = 0, 4096  # constants of turbojpeg.h; PIL, torchvision and twoview use the accurate transform, too


class Decode:
    """Contestant that only decodes."""

    note = "decodes each image once and makes no views"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.turbojpeg = ctypes.CDLL(turbojpeg.library())  # calls into it release the interpreter lock
        self.turbojpeg.tjInitDecompress.restype = ctypes.c_void_p
        self.turbojpeg.tjDecompress2.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p]
        self.turbojpeg.tjDecompress2.argtypes += [ctypes.c_int] * 5
        self.thread = threading.local()

    def make(self) -> None:
        self.beton = open_beton(self.job.beton)
        indices = self.job.indices()
        self.jpegs = indices[self.beton.modes[indices] == JPEG]  # raw images have nothing to decode
        if not self.jpegs.size:
            raise ValueError(f"{self.job.beton} must hold JPEGs to decode, got raw images only")
        self.pool = ThreadPoolExecutor(self.job.threads, initializer=self.start_thread)

    def start_thread(self) -> None:
        """Give a thread its own decompressor, and a buffer that holds the largest image."""
        self.thread.handle = self.turbojpeg.tjInitDecompress()
        self.thread.pixels = np.empty((self.beton.heights * self.beton.widths).max() * 3, np.uint8)

    def one_pass(self) -> Iterator[object]:
        order = np.random.default_rng(0).permutation(self.jpegs)
        # Each batch is decoded in four chunks per thread.
        chunks = np.array_split(order, 4 * self.job.images // self.job.batch * self.job.threads)
        for number, _ in enumerate(self.pool.map(self.decode, chunks), 1):
            if number % (4 * self.job.threads) == 0:  # the chunks of one batch are decoded
                yield number

    def decode(self, samples: np.ndarray) -> None:
        """Decode these samples, int (n,), into the thread's buffer."""
        beton, handle, pixels = self.beton, self.thread.handle, self.thread.pixels.ctypes.data
        for i in samples.tolist():
            begin, size = beton.file.ctypes.data + int(beton.pointers[i]), int(beton.sizes[i])
            width, height = int(beton.widths[i]), int(beton.heights[i])
            if self.turbojpeg.tjDecompress2(handle, begin, size, pixels, width, 0, height, RGB, ACCURATE_DCT) != 0:
                raise ValueError(f"sample {i} of {self.job.beton} cannot be decoded")
