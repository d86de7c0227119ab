"""How fast the machine is at this moment: a fixed piece of work on every core, which no change of ours can touch."""

import hashlib
import os
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from twoview.bench.runtime.cores import cores

MIB = 2**20


class Calibration:
    """Hashes a buffer on each core at once; hashlib releases the interpreter lock and no thread spins afterwards."""

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
        """Wall seconds until the last of these cores is done; every core by default."""
        start = time.perf_counter()
        list(self.pool.map(self._hash, on or self.cores))
        return time.perf_counter() - start

    def _hash(self, core: int) -> None:
        os.sched_setaffinity(0, {core})  # of this thread
        hashlib.sha256(self.buffer).digest()
