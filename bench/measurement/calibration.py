"""How fast the machine is at the moment: the time of a fixed piece of work that no change of our code affects."""

import hashlib
import os
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from twoview.bench.runtime.cores import cores

MIB = 2**20


class Calibration:
    """Times the hashing of a buffer on every core at once.

    hashlib releases the interpreter lock, and its threads do not keep a core busy afterwards. mib: size of the buffer.
    """

    def __init__(self, mib: int = 8) -> None:
        self.cores = cores()
        self.buffer = bytes(mib * MIB)
        self.pool = ThreadPoolExecutor(len(self.cores))

    def __enter__(self) -> Self:
        self.seconds()  # starts the threads
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def seconds(self, on: Collection[int] | None = None) -> float:
        """Return the wall seconds until all of the cores `on` have finished; by default all cores."""
        start = time.perf_counter()
        list(self.pool.map(self._hash, on or self.cores))
        return time.perf_counter() - start

    def _hash(self, core: int) -> None:
        os.sched_setaffinity(0, {core})  # applies to this thread only
        hashlib.sha256(self.buffer).digest()
