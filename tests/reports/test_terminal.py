"""The terminal shows the same numbers, and a narrow one shows fewer columns and no broken ones."""

import io

import pytest
from rich.console import Console

from twoview.bench.evidence import write
from twoview.reports.report import write_report
from twoview.reports.terminal import show


def shown(report, width):
    console = Console(file=io.StringIO(), width=width)
    show(report, console)
    return console.file.getvalue()


@pytest.fixture
def report(make, tmp_path):
    folder = tmp_path / "evidence"
    folder.mkdir()
    write(
        make.run(knn=79.25, training=make.training, ceilings=make.ceilings, method="[bold]"),
        folder,
    )
    write(make.run("untrained", knn=75.0), folder)
    write(make.loader({"twoview": [1200.0], "torchvision": [200.0]}), folder)
    (folder / "torn.json").write_text("{")
    return write_report(folder, tmp_path / "out")


def test_a_wide_terminal_shows_every_column(report):
    text = shown(report, 250)
    for words in ("79.25", "4.25", "88.89 %", "model", "6.00", "1,200.0", "Skipped: torn.json", "[bold]"):
        assert words in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_narrow_terminal_shows_the_important_columns_in_full(report, width):
    text = shown(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "[bold]" in text and "twoview" in text and "1,200.0" in text
    assert "…" not in text
    assert "kNN top-1 (%)" in text or width == 40


def test_each_machine_has_its_own_table(make, tmp_path):
    folder = tmp_path / "evidence"
    folder.mkdir()
    for cpu in ("Zen 4", "Zen 5"):
        write(make.run(cpu=cpu), folder)
    text = shown(write_report(folder, tmp_path / "out"), 120)
    assert "Runs on CPU, Zen 4 x2, 8 GiB" in text and "Runs on CPU, Zen 5 x2, 8 GiB" in text
