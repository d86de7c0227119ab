"""How fast the machine is at this moment: a fixed piece of work on every core, which no change of ours can touch."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from bench.cores import cpu_count

MIB = 2**20


class Calibration:
    """Hashes a buffer on every core at once; hashlib releases the interpreter lock and no thread spins afterwards."""

    def __init__(self, mib: int = 8) -> None:
        self.cores = cpu_count()
        self.buffer = bytes(mib * MIB)
        self.pool = ThreadPoolExecutor(self.cores)

    def __enter__(self) -> Self:
        self.seconds()  # starts the threads
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def seconds(self) -> float:
        """Wall seconds until the last core is done."""
        start = time.perf_counter()
        list(self.pool.map(lambda _: hashlib.sha256(self.buffer).digest(), range(self.cores)))
        return time.perf_counter() - start
