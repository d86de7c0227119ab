"""The structural rules: one import name for the repository's folders, and imports only from lower floors and rooms."""

import ast
import re
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import twoview
from twoview.reports.documents import BEGIN, END

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "loaders": {"loaders"},
    "methods": {
        "methods",
        "loaders.views",
        "loaders.masks",
        "loaders.rng",
        "loaders.errors",
        "loaders.files",
        "loaders.limits",
        "loaders.names",
        "loaders.kernels",
    },
    "bench": {"bench", "methods", "loaders"},
    "reports": {"reports", "bench", "loaders"},
}
FLOORS = set(MAY_IMPORT)
# The rooms of bench, from low to high: a room imports itself and the rooms before it.
ROOMS = (
    "runtime",
    "measurement",
    "config",
    "data",
    "evidence",
    "evaluation",
    "costs",
    "export",
    "training",
    "peers",
    "theory",
    "dataloader",
    "regression",
    "suites",
)
PUBLIC = {
    "Batch",
    "Beton",
    "Loader",
    "View",
    "__version__",
    "convert",
    "embed",
    "export",
    "load_evidence",
    "load_recipe",
    "open_beton",
    "preset",
    "probe",
    "train",
}


def imported(file: Path) -> set[str]:
    """The full names of what a file imports, at its top or in a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "twoview" else ("twoview", *parts))
    return name.removesuffix(".__init__")


@pytest.mark.parametrize("floor", sorted(FLOORS))
def test_floors_import_only_lower_floors(floor):
    """No floor may import `twoview/` itself, which is above them all."""
    files = list((ROOT / floor).rglob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            if name.startswith("twoview."):
                room = name.removeprefix("twoview.")
                allowed = any(room == one or room.startswith(f"{one}.") for one in MAY_IMPORT[floor])
                assert allowed, f"{file.relative_to(ROOT)} imports {name}"


def test_rooms_of_bench_import_only_lower_rooms():
    folders = {path.name for path in (ROOT / "bench").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {*ROOMS, "recipes"}
    assert [path.name for path in (ROOT / "bench").glob("*.py")] == ["__init__.py"]
    for number, room in enumerate(ROOMS):
        for file in (ROOT / "bench" / room).rglob("*.py"):
            for name in imported(file):
                if name.startswith("twoview.bench."):
                    below = name.split(".")[2]
                    assert ROOMS.index(below) <= number, f"{file.relative_to(ROOT)} imports {name}"


def test_there_are_no_circular_imports():
    """Neither at the top of a module nor in functions, directly or through other modules."""
    links = [ROOT / "twoview" / floor for floor in FLOORS]
    front = [file for file in (ROOT / "twoview").rglob("*.py") if not any(link in file.parents for link in links)]
    files = {module_of(file): file for file in [*front, *(f for floor in FLOORS for f in (ROOT / floor).rglob("*.py"))]}
    imports = {}
    for name, file in files.items():
        named = {one if one in files else one.rpartition(".")[0] for one in imported(file)}
        imports[name] = named & files.keys() - {name}
    TopologicalSorter(imports).prepare()  # CycleError, naming those in the circle


def test_floors_are_imported_only_as_parts_of_twoview():
    """A user's project may have folders with these names: `bench` is theirs, `twoview.bench` is ours."""
    for floor in FLOORS:
        link = ROOT / "twoview" / floor
        assert link.is_symlink() and link.resolve() == ROOT / floor
    for folder in ("twoview", *FLOORS, "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            assert not {name.partition(".")[0] for name in imported(file)} & FLOORS, file


def test_no_test_module_imports_another():
    for file in (ROOT / "tests").rglob("*.py"):
        for name in imported(file):
            *_, module, _ = ("", *name.split("."))
            assert not (name.startswith("test_") or module.startswith("test_")), f"{file.relative_to(ROOT)}: {name}"


def test_the_public_api_is_as_listed():
    """Adding or removing a name is a change that users must be told about."""
    assert set(twoview.__all__) == PUBLIC == set(dir(twoview))
    for name in PUBLIC - {"__version__"}:
        assert getattr(twoview, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match=r"^module 'twoview' has no attribute 'Loder'$"):
        _ = twoview.Loder


def test_the_code_names_no_folder_of_a_development_machine():
    for floor in ("twoview", *FLOORS):
        for file in (ROOT / floor).rglob("*.py"):
            assert "/work/" not in file.read_text() and "../shared" not in file.read_text(), file


BRITISH = re.compile(
    "(optim|normal|solar|util|initial|minim|maxim|visual|standard|synchron|regular|organ|recogn|summar|serial)is[eia]"
    "|colour|cent(re|ring)|neighbour|behaviour|favour|[bv]elled|gnalled|judgement|licence|learnt|grey",
    re.IGNORECASE,
)

WITH_OLD_WORDS = (Path(__file__), ROOT / "bench" / "evidence" / "labels.py")


def test_the_spelling_is_american():
    """Records, README's quotes of them, and the code that reads old records keep their original words."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for path in map(ROOT.joinpath, names):
        if path.is_relative_to(ROOT / "reports" / "results") or path in WITH_OLD_WORDS or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        for line in (text.partition(BEGIN)[0] + text.partition(END)[2]).splitlines():
            assert not BRITISH.search(line) or "validation_alias" in line, f"{path}: {line}"
