"""Missing requirements of the GPU suite are named in one sentence before anything of it is imported."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from twoview.bench.suites.gpu import bundle, requirements
from twoview.loaders import turbojpeg

ROOT = Path(__file__).parents[3]
PACKAGE = "twoview"
# Imported only by functions that the suite does not call, for Hugging Face's datasets and for images of one's own.
NOT_CALLED = {"datasets", "braceexpand"}
# In a fresh interpreter: which of our files `twoview suite gpu` loads, and which packages it should not load.
LOADED = f"""
import sys
import twoview.cli, twoview.commands.suite, twoview.commands.suite_gpu
import twoview.bench.suites.gpu.suite, twoview.reports.report
ours = [module.__file__ for name, module in sys.modules.items() if name.startswith('{PACKAGE}.') and module.__file__]
print(*ours, sep='\\n')
print(*{{*{bundle.UNUSED!r}, 'ffcv', 'lightly'}} & {{*sys.modules}}, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def loaded():
    return subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=ROOT)


def imported(files):
    names = set()
    for node in (node for file in files for node in ast.walk(ast.parse(Path(file).read_text()))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {PACKAGE}


def test_the_list_matches_the_imports_of_the_suites_files(loaded):
    assert imported(loaded.stdout.split()) - NOT_CALLED == requirements.PACKAGES.keys()


def test_packages_that_no_bundle_has_are_not_imported(loaded):
    assert loaded.stderr.split() == []


def test_every_package_is_among_the_dependencies_or_comes_with_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {Requirement(one).name for one in project["dependencies"]} - {*bundle.UNUSED}
    come_along = {"markupsafe"}  # with jinja2
    assert {*requirements.PACKAGES.values()} - ours == come_along


@pytest.fixture
def python(tmp_path):
    """A function: words -> (exit code, standard error) of a Python whose packages in `tmp_path` come first."""

    def call(*words):
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, cwd=ROOT)
        return done.returncode, done.stderr

    return call


def package(folder, name, error):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(f"raise {error}\n")


def hide(folder, name):
    package(folder, name, f"ModuleNotFoundError('No module named {name}', name={name!r})")


def test_all_missing_and_broken_packages_are_named_at_once(python, tmp_path):
    hide(tmp_path, "pydantic")
    hide(tmp_path, "tyro")
    package(tmp_path, "numba", "ImportError('Numba needs NumPy 2.4 or less. Got NumPy 2.5.\\nand more')")
    assert python("-m", "twoview", "suite", "gpu", "--check", "--device", "cpu") == (
        2,
        "twoview: suite gpu needs a numba that can be imported (pip install numba; this one says: Numba needs NumPy 2.4"
        " or less. Got NumPy 2.5.), pydantic (pip install pydantic) and tyro (pip install tyro), which are missing\n",
    )


def test_every_command_needs_tyro(python, tmp_path):
    hide(tmp_path, "tyro")
    said = "twoview: the command line needs tyro (pip install tyro), which is missing\n"
    assert python("-m", "twoview", "list", "recipes") == python("-m", "twoview") == (2, said)


def test_a_missing_libturbojpeg_is_named(monkeypatch):
    monkeypatch.setattr(turbojpeg.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(turbojpeg, "SONAME", "libturbojpeg-of-nowhere.so.0")
    assert requirements.absent() == ["libturbojpeg (Debian: apt install libturbojpeg0)"]


def by_word(lines):
    return dict(line.split(maxsplit=1) for line in lines)


def test_a_check_says_what_a_run_depends_on(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").touch()
    monkeypatch.setenv("CC", "/opt/my/cc")
    lines = by_word(requirements.lines("cpu", tmp_path, tmp_path / "out" / "gpu"))
    assert set(lines) >= {"Python", "torch", "numba", "GPU", "compiler", "lightly", "CIFAR-10", "free"}
    assert lines["compiler"].startswith("/opt/my/cc, ") and lines["CIFAR-10"].startswith("1 of 7 files in ")
    assert "no data root" in by_word(requirements.lines("cpu", None, tmp_path))["CIFAR-10"]


def test_a_check_fails_without_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^--device cuda needs a CUDA device, and torch sees none here$"):
        requirements.lines("cuda", None, tmp_path)
