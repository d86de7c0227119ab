"""What `pip install twoview` installs: one import name, nothing that must be compiled, and all that modules need."""

import os
import pkgutil
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import twoview

ROOT = Path(__file__).parent.parent
COMPILED = {"ffcv"}  # on PyPI without wheels
PEERS = {"dali", "ffcv", "kornia", "lightly", "spdl"}  # in bench/peers: a measurement notes which of them are missing
# In a fresh interpreter: which of the named modules cannot be imported without ffcv.
IMPORTED = """
import importlib, sys
sys.modules["ffcv"] = None  # its import raises ModuleNotFoundError
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        print(name)
"""


def names(requirements):
    return {Requirement(one).name for one in requirements}


def test_packages_that_must_be_compiled_are_only_in_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not names(project["dependencies"]) & COMPILED
    for extra in ("peers", "test"):
        assert names(project["optional-dependencies"][extra]) >= COMPILED


def test_without_ffcv_every_module_but_its_peer_can_be_imported():
    modules = [
        one.name for one in pkgutil.walk_packages(twoview.__path__, "twoview.") if one.name != "twoview.__main__"
    ]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *modules], capture_output=True, text=True, check=True, cwd=ROOT
    )
    missing = {*done.stdout.split()}
    assert "twoview.bench.peers.ffcv" in missing and missing <= {f"twoview.bench.peers.{name}" for name in PEERS}


FOLDERS = ("bench", "loaders", "methods", "reports", "tests")
GATED = """
import pytest

from bench import mine
from tests import ours


@pytest.mark.twoview(speed=0.5)
def test_a_function(twoview):
    assert twoview(sum, [1, 2]) == 3 and mine and ours
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of what git would commit, built in a separate folder."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split("\0"):
        if name and os.path.lexists(ROOT / name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(made), str(source)], check=True)
    (path,) = made.iterdir()
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of a fresh environment that has the wheel and the packages that twoview depends on."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    path = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(path), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    (site,) = folder.glob("lib/*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A user's project with folders named like ours."""
    folder = tmp_path_factory.mktemp("project")
    for name in FOLDERS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
    (folder / "bench" / "mine.py").touch()
    (folder / "tests" / "ours.py").touch()
    (folder / "tests" / "test_gated.py").write_text(GATED)
    return folder


def test_a_wheel_installs_one_package(python):
    (site,) = python.parents[1].glob("lib/*/site-packages")
    ours = {path.name for path in site.iterdir() if not path.name.startswith(("dependencies", "_", "distutils"))}
    assert ours == {"twoview", f"twoview-{twoview.__version__}.dist-info"}
    for name in ("py.typed", "loaders/decode.py", "bench/recipes/quick/quick-fashion-mnist.toml", "reports/templates"):
        assert (site / "twoview" / name).exists()
    assert not any(path.is_symlink() for path in (site / "twoview").rglob("*"))


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "twoview", "list", "recipes"],
        ["-c", "import bench.mine; from twoview import load_recipe; assert load_recipe('quick-fashion-mnist').epochs"],
        ["-m", "pytest", "-q", "--benchmark-save=first"],
        *(
            pytest.param(["-m", *words], marks=pytest.mark.long)
            for words in (
                ["torch.distributed.run", "--nproc-per-node", "2", "-m", "twoview", "list", "methods"],
                ["twoview", "report", str(ROOT / "reports" / "results" / "peers"), "--out", "page"],
                ["twoview", "train", "quick-fashion-mnist", "--epochs", "8", "--train-images", "32", "--batch", "32"],
            )
        ),
    ],
)
def test_a_project_may_have_folders_named_like_ours(python, project, words):
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    done = subprocess.run([str(python), *words], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
