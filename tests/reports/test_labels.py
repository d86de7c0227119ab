"""Labels are only for readers: other labels change the words of a page and nothing else."""

import ast
from pathlib import Path
from typing import get_args

import pandas as pd

from twoview.bench.evidence import DeviceFigures, Figure, Quantity, read_folder
from twoview.bench.evidence import labels as old
from twoview.reports import labels, loader_table
from twoview.reports.documents import RESULTS
from twoview.reports.gpu_table import gpu_table, target_table
from twoview.reports.labels import LABELS, OF_VARIANT, label
from twoview.reports.loader_table import required_table
from twoview.reports.training_figures import training_plots

ROOT = Path(__file__).parents[2]
# Common words that also name other measurements and parts of a step.
COMMON = {"data wait", "loader alone", "model alone", "peak host memory", "first batch", "peak memory"}


def test_every_quantity_has_its_own_label():
    assert set(LABELS) == set(get_args(Quantity))
    assert len({*LABELS.values(), *OF_VARIANT.values()}) == len(LABELS) + len(OF_VARIANT)
    shown = [label(Figure(work="w", quantity=name, variant="85", samples=[])) for name in LABELS]
    assert "training time to 85 % kNN top-1" in shown and "training throughput, 85" in shown


def test_other_labels_change_only_the_words_of_the_tables(monkeypatch):
    records = read_folder(RESULTS)[0]
    devices = [record for record in records if isinstance(record, DeviceFigures)]
    loaders = [record for record in records if record.kind in ("loader", "convert")]

    def pages():
        nothing = pd.DataFrame(columns=["dataset", "machine"])
        plots = training_plots([], nothing, devices)
        return [gpu_table(devices), target_table(devices), required_table(loaders)], [one.caption for one in plots]

    tables, captions = pages()
    assert captions and all(len(table) for table in tables)
    monkeypatch.setattr(labels, "LABELS", dict.fromkeys(LABELS, "another"))
    monkeypatch.setattr(labels, "OF_VARIANT", dict.fromkeys(OF_VARIANT, "another, {}"))
    monkeypatch.setattr(loader_table, "LABELS", dict.fromkeys(loader_table.LABELS, "another"))
    renamed, same_captions = pages()
    assert captions == same_captions
    for before, after in zip(tables, renamed, strict=True):
        assert set(after["metric"].str.split("[,/]").str[0].str.strip()) == {"another"}
        assert before.drop(columns="metric").equals(after.drop(columns="metric"))


def test_labels_are_only_in_their_own_modules():
    words = {*LABELS.values(), *old.OF_LABEL, *loader_table.LABELS.values()} - COMMON
    words = {word for word in words if " " in word}
    tables = {Path(module.__file__).resolve() for module in (labels, old, loader_table)}
    for floor in ("twoview", "bench", "methods", "reports"):
        for file in (ROOT / floor).rglob("*.py"):
            if file.resolve() not in tables:
                texts = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
                assert not words & texts, f"{file.relative_to(ROOT)}: {words & texts}"
