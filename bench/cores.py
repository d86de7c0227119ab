"""The processor cores there are for us."""

import psutil


def cpu_count() -> int:
    """Cores this process may run on, which in a container is fewer than the machine has."""
    return len(psutil.Process().cpu_affinity())
