"""The CPU cores that this process may use."""

import os
from collections.abc import Collection
from contextlib import suppress

import psutil


def cpu_count() -> int:
    """Return the number of cores that this process may run on. In a container the machine may have more."""
    return len(cores())


def cores() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    return list(psutil.Process().cpu_affinity())


def confine(process: int, to: Collection[int]) -> None:
    """Restrict all threads of a process, and all threads and processes that they start later, to the cores `to`.

    process: the id of the process.
    """
    for thread in os.listdir(f"/proc/{process}/task"):
        with suppress(ProcessLookupError):  # the thread has ended meanwhile
            os.sched_setaffinity(int(thread), to)
