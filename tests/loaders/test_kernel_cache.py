"""The cache of compiled kernels: the code always matches the sources, and no folder is required."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twoview.loaders import kernels

DRAWS = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from twoview.loaders.ops import flip
assert flip.__file__.startswith(sys.argv[1])
print("".join(str(int(flip.draw(0.5, np.uint64(1), 0, i, 0))) for i in range(64)))
"""


@pytest.fixture
def package(tmp_path):
    """Make a copy of the loaders without compiled code."""
    copy = tmp_path / "own" / "twoview"
    shutil.copytree(kernels.LOADERS, copy / "loaders", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "__init__.py").touch()
    return copy


def draws(package, **environment):
    """Return the results of the copy's kernels, from two files, in a separate process."""
    inherited = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment = inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | environment
    words = [sys.executable, "-c", DRAWS, str(package.parent)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=package)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edit(package):
    """Change a constant of the generator, and keep the file's modification time."""
    path = package / "loaders" / "rng.py"
    before = path.stat()
    path.write_text(path.read_text().replace("0xD2511F53", "0xD2511F55"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("where", ["given", "beside"])
def test_code_of_older_sources_is_never_run(package, tmp_path, where):
    given = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")} if where == "given" else {}
    old = draws(package, **given)
    edit(package)
    new = draws(package, **given)
    assert new != old and new == draws(package, NUMBA_CACHE_DIR=str(tmp_path / "fresh"))


def test_code_is_kept_and_found_again(package):
    draws(package)
    kept = {path: path.stat().st_mtime_ns for path in package.rglob("*.nb[ic]")}
    assert kept
    draws(package)
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*.nb[ic]")} == kept


def test_no_folder_that_can_be_written_is_needed(package, tmp_path):
    """Put a file in place of each folder that would be created, so that nobody, not even root, can write there."""
    home = tmp_path / "home"
    home.write_text("no folder")
    for folder in (package / "loaders", package / "loaders" / "ops"):
        (folder / "__pycache__").write_text("no folder")
    elsewhere = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    assert draws(package, **elsewhere) == draws(package, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert not list(package.rglob("*.nb[ic]"))


def test_numba_s_compiler_is_needed(package):
    words = [sys.executable, "-c", "import twoview.loaders.decode"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
    assert "ImportError: the loader's kernels must be compiled: unset NUMBA_DISABLE_JIT" in done.stderr


def test_every_file_with_kernels_is_known():
    with_kernels = {path for path in kernels.LOADERS.rglob("*.py") if "@kernel" in path.read_text()}
    assert with_kernels - {Path(kernels.__file__)} <= set(kernels.sources())
