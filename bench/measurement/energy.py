"""Energy used between two moments, in joules: of a GPU through NVML, or of the CPUs through RAPL.

It is None if the counter cannot be read.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

RAPL = Path("/sys/class/powercap")

nvml: ModuleType | None = None
with contextlib.suppress(ImportError):  # not needed on a machine without a GPU
    import pynvml as nvml  # type: ignore[import-untyped, no-redef]


class Counter(Protocol):
    """A counter of energy."""

    def joules(self) -> float:
        """Return the joules since some fixed moment in the past; the value never decreases."""


class Energy:
    """The joules used since construction; None if the device has no counter that this process may read."""

    def __init__(self, device: "torch.device") -> None:
        self._counter = counter(device)
        self._start = self._counter.joules() if self._counter else 0.0

    @property
    def joules(self) -> float | None:
        """The joules used since construction, or None."""
        return self._counter.joules() - self._start if self._counter else None


def counter(device: "torch.device") -> Counter | None:
    """Return the energy counter of a device, or None if it cannot be read.

    It counts the whole card, or all CPUs of the machine, and so includes what other processes use.
    """
    if device.type == "cuda":
        return NVML.open(_uuid(device))
    return RAPLCounter.open(RAPL)


def gpu() -> tuple[ModuleType, object] | None:
    """Return the NVML module and its handle of torch's current GPU; None without a GPU, nvidia-ml-py or a driver."""
    import torch  # imported here because reading records must work without it

    if nvml is None or not torch.cuda.is_available():
        return None
    try:
        nvml.nvmlInit()
        return nvml, nvml.nvmlDeviceGetHandleByUUID(_uuid(torch.device("cuda", torch.cuda.current_device())))
    except nvml.NVMLError:
        return None


def _uuid(device: "torch.device") -> str:
    """Return the GPU's UUID in the form that NVML expects."""
    import torch

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


class NVML:
    """The energy counter of one GPU (Volta or newer)."""

    def __init__(self, handle: object) -> None:
        self._handle = handle

    @classmethod
    def open(cls, uuid: str) -> "NVML | None":
        """Return the counter of the GPU with that UUID; None without nvidia-ml-py, driver, that GPU or its counter."""
        if nvml is None:
            return None
        try:
            nvml.nvmlInit()
            opened = cls(nvml.nvmlDeviceGetHandleByUUID(uuid))
            opened.joules()
        except nvml.NVMLError:
            return None
        return opened

    def joules(self) -> float:
        assert nvml is not None
        # NVML counts millijoules since the driver was loaded.
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3


class RAPLCounter:
    """The energy counters of all CPU packages, summed.

    Each wraps around after minutes to hours, so it must be read more often than that.
    """

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self._ranges = [_number(package / "max_energy_range_uj") for package in packages]
        self._last = [_number(package / "energy_uj") for package in packages]
        self._total = 0

    @classmethod
    def open(cls, folder: Path) -> "RAPLCounter | None":
        """Return the counters below `folder`; None if this process may not read any (Linux lets only root)."""
        try:
            packages = list(_packages(folder))
            return cls(packages) if packages else None
        except OSError:
            return None

    def joules(self) -> float:
        for number, package in enumerate(self._packages):
            # The counter is in microjoules, and after its range it begins again at 0.
            now = _number(package / "energy_uj")
            self._total += (now - self._last[number]) % (self._ranges[number] + 1)
            self._last[number] = now
        return self._total / 1e6


def _packages(folder: Path) -> Iterator[Path]:
    """Yield the folders of the CPU packages, intel-rapl:0, intel-rapl:1, ... (also for AMD's CPUs).

    Parts of a package, such as intel-rapl:0:0, are skipped.
    """
    for path in sorted(folder.glob("intel-rapl:*")):
        if path.name.count(":") == 1 and (path / "name").read_text().startswith("package"):
            yield path


def _number(path: Path) -> int:
    return int(path.read_text())
