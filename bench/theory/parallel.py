"""The same work on many things, a thread a core."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from twoview.bench.runtime.cores import cpu_count

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Thing], Result], things: Iterable[Thing]) -> list[Result]:
    """The work's results, in order; each is computed by one thread, so that the number of cores changes no digit.

    For numpy and our numba kernels, which let other threads run.
    """
    with threadpool_limits(1), ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(work, things))
