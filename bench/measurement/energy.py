"""Joules between two moments: of a GPU through NVML, of the processors through RAPL, None where neither can be read."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

RAPL = Path("/sys/class/powercap")

nvml: ModuleType | None = None
with contextlib.suppress(ImportError):  # a machine without a GPU does without it
    import pynvml as nvml  # type: ignore[import-untyped, no-redef]


class Counter(Protocol):
    def joules(self) -> float:
        """Since some moment in the past; never falls."""


class Energy:
    """Joules since construction; None where the device has no counter that this process may read."""

    def __init__(self, device: "torch.device") -> None:
        self._counter = counter(device)
        self._start = self._counter.joules() if self._counter else 0.0

    @property
    def joules(self) -> float | None:
        return self._counter.joules() - self._start if self._counter else None


def counter(device: "torch.device") -> Counter | None:
    """The device's energy counter: of the whole card, or of all processors of the machine, whoever else uses them."""
    if device.type == "cuda":
        return NVML.open(_uuid(device))
    return RAPLCounter.open(RAPL)


def gpu() -> tuple[ModuleType, object] | None:
    """NVML and its handle of torch's GPU; None without a GPU, nvidia-ml-py or a driver."""
    import torch  # here, for whoever only reads records does without it

    if nvml is None or not torch.cuda.is_available():
        return None
    try:
        nvml.nvmlInit()
        return nvml, nvml.nvmlDeviceGetHandleByUUID(_uuid(torch.device("cuda", torch.cuda.current_device())))
    except nvml.NVMLError:
        return None


def _uuid(device: "torch.device") -> str:
    import torch

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


class NVML:
    """The energy counter of one GPU, Volta or newer."""

    def __init__(self, handle: object) -> None:
        self._handle = handle

    @classmethod
    def open(cls, uuid: str) -> "NVML | None":
        """None without nvidia-ml-py, a driver, that GPU or its counter."""
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
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3  # millijoules since the driver began


class RAPLCounter:
    """The energy counters of all processor packages. Each wraps around, after minutes to hours: read it more often."""

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self._ranges = [_number(package / "max_energy_range_uj") for package in packages]
        self._last = [_number(package / "energy_uj") for package in packages]
        self._total = 0

    @classmethod
    def open(cls, folder: Path) -> "RAPLCounter | None":
        """None where there is no package that this process may read (Linux lets root alone)."""
        try:
            packages = list(_packages(folder))
            return cls(packages) if packages else None
        except OSError:
            return None

    def joules(self) -> float:
        for number, package in enumerate(self._packages):
            now = _number(package / "energy_uj")
            self._total += (now - self._last[number]) % (self._ranges[number] + 1)
            self._last[number] = now
        return self._total / 1e6


def _packages(folder: Path) -> Iterator[Path]:
    """intel-rapl:0, intel-rapl:1, ... (AMD's too), not their parts such as intel-rapl:0:0."""
    for path in sorted(folder.glob("intel-rapl:*")):
        if path.name.count(":") == 1 and (path / "name").read_text().startswith("package"):
            yield path


def _number(path: Path) -> int:
    return int(path.read_text())
