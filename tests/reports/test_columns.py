"""A column is defined once: a new entry of a table's list is in its CSV, on the page, the terminal and in Markdown."""

import io
import re

import pytest
from rich.console import Console

from twoview.bench.evidence import read_folder, write
from twoview.reports import loader_table, over_seeds
from twoview.reports.cells import Column, fields
from twoview.reports.contents import RECORD_TABLES, report_of
from twoview.reports.documents import measured
from twoview.reports.report import write_report
from twoview.reports.table import Table, frame_of
from twoview.reports.terminal import SHOWN, show


@pytest.fixture
def folder(make, tmp_path):
    write(make.run(knn=79.25), tmp_path / "evidence")
    write(make.loader({"twoview": [1200.0]}), tmp_path / "evidence")
    return tmp_path / "evidence"


@pytest.fixture
def also():
    """A function: adds a column to a list for the duration of the test."""
    put = []

    def put_into(columns, at, column):
        columns.insert(at, column)
        put.append((columns, column))

    yield put_into
    for columns, column in put:
        columns.remove(column)


def shown(report):
    console = Console(file=io.StringIO(), width=300)
    show(report, console)
    return console.file.getvalue()


def test_a_new_column_is_in_every_output(also, folder, tmp_path, monkeypatch):
    row_of = loader_table._row
    monkeypatch.setattr(loader_table, "_row", lambda *of: row_of(*of) | {"watts": 23.456})
    also(loader_table.COLUMNS, 0, Column("watts", "board W", 1, page=2, terminal=2, results=1))
    report = write_report(folder, tmp_path / "out")
    header, row = report.files["loader.csv"].read_text().splitlines()
    assert header.startswith("watts,beton,") and row.startswith("23.5,photographs.beton,")
    page = re.sub(r"\s+", " ", report.files["index.html"].read_text())
    before = r"board W</button></th> <th[^>]*><button[^>]*>size \(px\)</button>"
    assert re.search(before, page), "before the other column with place 2"
    assert '<td class="number" data-sort="23.5">23.5</td>' in page
    assert re.search(r"^loader +board W +size \(px\) +images/s ", shown(report), re.M)
    in_docs = measured(read_folder(folder)[0])
    assert re.search(r"^\| board W \| \.beton file \|.*\n.*\n\| 23\.5 \| photographs\.beton \|", in_docs, re.M)


def test_a_new_column_of_the_leaderboard_is_in_markdown(also, folder, tmp_path, monkeypatch):
    row_of = over_seeds._over_seeds
    monkeypatch.setattr(over_seeds, "_over_seeds", lambda runs: row_of(runs) | {"watts": 23.456})
    also(over_seeds.COLUMNS, 0, Column("watts", "board W", 1, page=1, terminal=1, markdown=1))
    report = write_report(folder, tmp_path / "out")
    assert "| board W | dataset |" in report.files["leaderboard.md"].read_text()
    assert "| 23.5 | fashion-mnist |" in report.files["leaderboard.md"].read_text()
    assert "board W" in report.files["index.html"].read_text() and "board W" in shown(report)


def test_a_column_without_a_place_is_only_in_the_csv(also, folder, tmp_path):
    also(loader_table.COLUMNS, 3, Column("watts", "board W", 1))
    report = write_report(folder, tmp_path / "out")
    assert ",size,watts,batch," in report.files["loader.csv"].read_text()
    assert "board W" not in report.files["index.html"].read_text() + shown(report) + measured(read_folder(folder)[0])


def test_a_name_has_the_same_heading_in_every_table():
    """Even `published` and `measured`, which are about another thing in each table."""
    tables = report_of([], [], []).tables
    written = {}
    for name, table in tables.items():
        assert list(table.frame.columns) == list(fields(table.columns)), name
        for column in table.columns:
            said = column.heading, column.decimals, column.share, column.small
            assert written.setdefault(column.name, said) == said, f"{column.name} in {name}"


def test_every_table_is_on_the_terminal():
    tables = report_of([], [], []).tables
    assert {*SHOWN, "budget"} == tables.keys() > RECORD_TABLES.keys()


def test_columns_with_equal_places_keep_their_order():
    columns = [Column("b", "b", page=2), Column("a", "a", page=1), Column("c", "c"), Column("d", "d", page=1)]
    table = Table("t", columns, frame_of([{"a": 1, "z": 2}], columns))
    assert [column.name for column in table.shown("page")] == ["a", "d", "b"]
    assert table.shown("terminal") == [] and table.csv() == "b,a,c,d\n,1,,\n"
