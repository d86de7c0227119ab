"""Peak memory of this process and of its GPU."""

from pathlib import Path

import torch


class PeakMemory:
    """Peaks between construction and reading: `host_mib` resident, `device_mib` allocated by torch (None: no GPU).

    The host peak is Linux's VmHWM, which writing 5 to clear_refs resets to what is resident now (proc(5)).
    """

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    @property
    def host_mib(self) -> float:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise OSError("/proc/self/status has no line VmHWM")

    @property
    def device_mib(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
