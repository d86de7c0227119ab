"""What `pip install twoview` brings: nothing that has to be compiled, and all that our modules need."""

import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
FLOORS = ("bench", "loaders", "methods", "reports")
COMPILED = {"ffcv"}  # on PyPI without wheels
PEERS = {"dali", "ffcv", "kornia", "lightly", "spdl"}  # of bench/peers: what a measurement says is absent
# In a fresh interpreter: which of the modules named cannot be imported where ffcv is absent.
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


def test_what_has_to_be_compiled_is_of_the_extras_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not names(project["dependencies"]) & COMPILED
    for extra in ("peers", "test"):
        assert names(project["optional-dependencies"][extra]) >= COMPILED


def test_without_ffcv_every_module_can_be_imported_but_its_peer():
    files = [path.relative_to(ROOT).with_suffix("") for floor in FLOORS for path in (ROOT / floor).rglob("*.py")]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in files]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *modules], capture_output=True, text=True, check=True, cwd=ROOT
    )
    absent = {*done.stdout.split()}
    assert "bench.peers.ffcv" in absent and absent <= {f"bench.peers.{name}" for name in PEERS}
