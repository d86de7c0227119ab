"""The environment of a measurement: the machine, the software and the commit that a number depends on."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from twoview.bench.measurement import energy
from twoview.bench.runtime.cores import cpu_count

# The packages whose versions are recorded: those that our code uses, and the peers that it is compared with.
PACKAGES = ("twoview", "torch", "torchvision", "numba", "numpy", "ffcv", "pillow", "pandas")
PEERS = ("lightly", "kornia", "spdl-core", "nvidia-dali-cuda130")
ROOT = Path(__file__).resolve().parents[2]  # the repository; the package `twoview` links to its folders
COMMIT = "commit.json"  # {"commit": ..., "dirty": ...}, in a copy of the repository that has no .git


class Environment(BaseModel):
    """The machine, the software and the commit that a measurement was made with.

    cpu_count: number of cores that this process may use.
    driver: version of the GPU's driver; None if it cannot be read, or in records that are older than this field.
    packages: versions of our dependencies and peers, by name; "not installed" for a missing one.
    commit: empty if it is unknown. dirty: whether any file differs from the commit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str
    cpu_count: int
    memory_gib: float
    gpu: str | None
    driver: str | None = None
    system: str
    python: str
    packages: dict[str, str]
    commit: str
    dirty: bool

    @property
    def machine(self) -> str:
        """The machine in words. Results of different machines are never ranked together."""
        return f"{self.gpu or 'CPU'}, {self.cpu} x{self.cpu_count}, {self.memory_gib:.0f} GiB"

    @property
    def hash(self) -> str:
        """A hash of everything but the commit, in eight hex digits. Equal environments have equal hashes.

        Fields that a record lacks are omitted, so that older records keep their hash.
        """
        text = self.model_dump_json(exclude={"commit", "dirty"}, exclude_unset=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@functools.cache
def environment() -> Environment:
    """Return the environment of this process."""
    import torch  # imported here because reading records must work without it

    commit, dirty = commit_of(ROOT)
    return Environment(
        cpu=_cpu_name(),
        cpu_count=cpu_count(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        driver=_driver(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: version(name) for name in (*PACKAGES, *PEERS)},
        commit=commit,
        dirty=dirty,
    )


def commit_of(tree: Path) -> tuple[str, bool]:
    """Return the commit that a copy of the repository is at, and whether any of its files differs from that commit.

    The commit is empty if it is unknown. If the copy has a file commit.json, that is used instead of git, because a
    copy that was unpacked inside another repository would otherwise get that repository's commit.
    """
    try:
        brought = json.loads((tree / COMMIT).read_text())
    except FileNotFoundError:
        return _git(tree, "rev-parse", "HEAD"), bool(_git(tree, "status", "--porcelain"))
    return brought["commit"], brought["dirty"]


def frequencies() -> dict[str, float]:
    """Return the current clock rates in MHz that can be read: `cpu` (mean of its cores), `gpu` and `gpu memory`."""
    found = {}
    if cpu := psutil.cpu_freq():
        found["cpu"] = cpu.current
    if gpu := energy.gpu():
        nvml, handle = gpu
        with contextlib.suppress(nvml.NVMLError):
            found["gpu"] = float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
            found["gpu memory"] = float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM))
    return found


def _driver() -> str | None:
    """Return the version of the GPU's driver, or None."""
    if gpu := energy.gpu():
        nvml, _ = gpu
        with contextlib.suppress(nvml.NVMLError):
            return str(nvml.nvmlSystemGetDriverVersion())
    return None


def _cpu_name() -> str:
    """Return the CPU's model name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version(package: str) -> str:
    """Return the installed version of a package, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git(tree: Path, *words: str) -> str:
    """Return the output of a git command in `tree`; empty if it fails."""
    command = ["git", "-C", str(tree), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
