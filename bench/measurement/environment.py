"""Which machine, which software, which commit: what a number depends on besides the recipe."""

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

PACKAGES = ("twoview", "torch", "torchvision", "numba", "numpy", "ffcv", "pillow", "pandas")
PEERS = ("lightly", "kornia", "spdl-core", "nvidia-dali-cuda130")
ROOT = Path(__file__).resolve().parents[2]  # behind the link of the package `twoview`
COMMIT = "commit.json"  # {"commit": ..., "dirty": ...}, in a tree that traveled without its .git


class Environment(BaseModel):
    """cpu_count counts the cores this process may use. commit is empty where none can be found.

    driver: of the GPU, where it can be read; records older than this field have none.
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
        """Words for the machine; rows of different machines never share a ranking."""
        return f"{self.gpu or 'CPU'}, {self.cpu} x{self.cpu_count}, {self.memory_gib:.0f} GiB"

    @property
    def hash(self) -> str:
        """Eight hex digits of everything but the commit: equal environments, equal hash.

        A field that a record does not have does not count, so that older records keep theirs.
        """
        text = self.model_dump_json(exclude={"commit", "dirty"}, exclude_unset=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@functools.cache
def environment() -> Environment:
    import torch  # here, for whoever only reads records does without it

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
    """The commit of a tree, and whether anything in it differs from that. An empty commit where none can be found.

    What traveled with the tree comes first: around an unpacked tree there may be some other repository's checkout.
    """
    try:
        brought = json.loads((tree / COMMIT).read_text())
    except FileNotFoundError:
        return _git(tree, "rev-parse", "HEAD"), bool(_git(tree, "status", "--porcelain"))
    return brought["commit"], brought["dirty"]


def frequencies() -> dict[str, float]:
    """MHz at this moment of what can be read: `cpu`, the mean of its cores, `gpu` and `gpu memory`."""
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
    if gpu := energy.gpu():
        nvml, _ = gpu
        with contextlib.suppress(nvml.NVMLError):
            return str(nvml.nvmlSystemGetDriverVersion())
    return None


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git(tree: Path, *words: str) -> str:
    command = ["git", "-C", str(tree), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
