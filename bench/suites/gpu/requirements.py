"""Check what `twoview suite gpu` imports, whether it is installed, and what else a run on this machine depends on.

Nothing but the standard library is needed to import this file, so that the check runs even if everything else is
missing.
"""

import importlib
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path

from twoview.loaders import turbojpeg

# module -> its name for pip. A test compares this table with what the suite's files import.
PACKAGES = {
    "PIL": "pillow",
    "jinja2": "jinja2",
    "llvmlite": "llvmlite",
    "markupsafe": "markupsafe",
    "matplotlib": "matplotlib",
    "numba": "numba",
    "numpy": "numpy",
    "pandas": "pandas",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pynvml": "nvidia-ml-py",
    "rich": "rich",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "threadpoolctl": "threadpoolctl",
    "timm": "timm",
    "torch": "torch",
    "torchmetrics": "torchmetrics",
    "torchvision": "torchvision",
    "tyro": "tyro",
}


def absent() -> list[str]:
    """Return the requirements of the suite that cannot be imported here, each with the command that installs it."""
    faults = [fault for fault in map(fault_of, PACKAGES) if fault]
    try:
        turbojpeg.library()
    except ImportError:
        faults.append(f"libturbojpeg ({turbojpeg.HOW_TO_GET})")
    return faults


def fault_of(module: str) -> str | None:
    """Return the fault of a module, with the command that installs it; None if the module can be imported."""
    package = PACKAGES[module]
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return f"{package} (pip install {package})"
        return _broken(package, error)
    except Exception as error:  # a package may raise anything
        return _broken(package, error)
    return None


def _broken(package: str, error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"a {package} that can be imported (pip install {package}; this one says: {line})"


def sentence(who: str, faults: Collection[str]) -> str:
    """Return one sentence about one or more faults. who: the part that needs the packages."""
    *first, last = faults
    words = f"{', '.join(first)} and {last}" if first else last
    return f"{who} needs {words}, which {'are' if first else 'is'} missing"


def lines(device: str, root: Path | None, folder: Path) -> list[str]:
    """Describe this machine for a run on `device`, `cuda` or `cpu`: a line per item, such as versions and free disk.

    Every required package must be importable. root: the data root, or None. folder: where the run would write.
    Raises ValueError for `cuda` if torch sees no CUDA device.
    """
    import numba
    import numpy
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a CUDA device, and torch sees none here")
    gpu = "none that torch sees"
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        gpu = f"{about.name}, {about.total_memory / 2**30:.0f} GiB, compute capability {about.major}.{about.minor}"
    found = {
        "Python": f"{platform.python_version()}, {sys.executable}",
        "torch": f"{torch.__version__}, built for CUDA {torch.version.cuda or '(none)'}",
        "numba": f"{numba.__version__}, with numpy {numpy.__version__}",
        "GPU": gpu,
        "compiler": _compiler(),
        "lightly": "installed" if importlib.util.find_spec("lightly") else "not installed: its step is not measured",
        "CIFAR-10": _cifar10(root),
        "free disk": _free(folder),
    }
    return [f"{key:20}{value}" for key, value in found.items()]


def _compiler() -> str:
    """Return the C compiler and the header with which Triton compiles the launchers of its kernels."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_path("include"), "Python.h")
    words = [compiler or "neither gcc nor clang is installed", f"{header}{'' if header.exists() else ' is missing'}"]
    return ", ".join(words)


def _cifar10(root: Path | None) -> str:
    """Return how many of CIFAR-10's files the data root has."""
    from twoview.bench.suites.gpu import packed_cifar

    if root is None:
        return "no data root: name one with --data-root or TWOVIEW_DATA"
    return f"{len(packed_cifar.present(root))} of {len(packed_cifar.FILES)} files in {root / packed_cifar.FOLDER}"


def _free(folder: Path) -> str:
    """Return the free space on the disk of a folder that need not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(there).free / 2**30:.0f} GiB for {folder}"
