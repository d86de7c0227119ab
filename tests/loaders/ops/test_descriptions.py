"""An op is one file and a field of `View`. No other code has to know about it."""

import ast
import re
from pathlib import Path

import pytest

import twoview
from twoview.loaders.views import OPS, View, ops_of, without_ops

ROOT = Path(twoview.__file__).parent.parent
# What makes views, and what measures and checks it.
GENERIC = (
    "loaders/decode.py", "loaders/render.py", "loaders/reference.py", "loaders/resident.py", "loaders/loader.py",
    "bench/dataloader/conformance.py", "bench/dataloader/profile.py", "bench/peers/torchvision.py",
)  # fmt: skip


def test_no_source_but_the_views_names_erasing():
    known = {ROOT / "loaders/ops/erase.py", ROOT / "loaders/views.py"}
    for floor in ("twoview", "loaders", "methods", "bench", "reports"):
        for path in set((ROOT / floor).rglob("*.py")) - known:
            assert not re.search(r"\berased?\b|\bErase\b|\bERASE\b", path.read_text()), path


@pytest.mark.parametrize("name", GENERIC)
def test_what_makes_views_names_no_op(name):
    tree = ast.parse((ROOT / name).read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    settings = {op.settings.__name__ for op in OPS.values() if op.settings is not float}
    assert not names & (OPS.keys() | settings), name


def test_the_ops_run_in_the_order_of_views_fields():
    first = ["jitter", "gray", "blur", "solarize"]  # as in torchvision's SimCLR-style pipelines
    assert [field for field in OPS if field in first] == first
    assert list(OPS) == [field for field in View.__dataclass_fields__ if field in OPS]


def test_settings_are_numbers_and_the_last_is_the_probability():
    for field, op in OPS.items():
        assert op.off == getattr(View(8), field) and op.row(op.off) == (0.0,) * op.width
        assert op.settings is float or op.settings._fields[-1] == "p"
    view = View(8, gray=0.5)
    assert ops_of(view) == {"gray": 0.5} and without_ops(view) == View(8)
