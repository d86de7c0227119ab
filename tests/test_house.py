"""The house's one structural rule: imports point down only. `bench/commands/` alone sees every floor."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "loaders": {"loaders"},
    "methods": {
        "methods",
        "loaders.views",
        "loaders.masks",
        "loaders.rng",
        "loaders.files",
        "loaders.limits",
        "loaders.names",
        "loaders.kernels",
    },
    "bench": {"bench", "methods", "loaders"},
    "reports": {"reports", "bench", "loaders"},
}
FLOORS = set(MAY_IMPORT)


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] in FLOORS}


@pytest.mark.parametrize("floor", sorted(FLOORS))
def test_imports_point_down(floor):
    files = [file for file in (ROOT / floor).rglob("*.py") if file.parent != ROOT / "bench" / "commands"]
    assert files
    for file in files:
        for name in imported(file):
            allowed = any(name == room or name.startswith(f"{room}.") for room in MAY_IMPORT[floor])
            assert allowed, f"{file.relative_to(ROOT)} imports {name}"


def test_the_product_does_not_depend_on_the_place_it_was_written_in():
    for floor in FLOORS:
        for file in (ROOT / floor).rglob("*.py"):
            assert "/work/" not in file.read_text() and "../shared" not in file.read_text(), file
