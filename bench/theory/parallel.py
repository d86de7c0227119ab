"""Do the same work on many things, with one thread per core."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from twoview.bench.runtime.cores import cpu_count

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Thing], Result], things: Iterable[Thing]) -> list[Result]:
    """Return the results in order. Each is computed by one thread, so that they do not depend on the number of cores.

    This is for numpy and our Numba kernels, which release the interpreter lock.
    """
    with threadpool_limits(1), ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(work, things))
