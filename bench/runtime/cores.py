"""The processor cores there are for us."""

import os
from collections.abc import Collection
from contextlib import suppress

import psutil


def cpu_count() -> int:
    """Cores this process may run on, which in a container is fewer than the machine has."""
    return len(cores())


def cores() -> list[int]:
    """Their numbers."""
    return list(psutil.Process().cpu_affinity())


def confine(process: int, to: Collection[int]) -> None:
    """Lets all threads of a process, and what they start from now on, run on these cores alone."""
    for thread in os.listdir(f"/proc/{process}/task"):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread), to)
