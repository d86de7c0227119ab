"""A claim a row, with its verdict and its figure."""

import numpy as np
import pytest

from bench.evidence import Claimed, Theory, write
from bench.theory.claims import Claim
from reports.report import write_report
from reports.theory import claim_rows, theory_table
from tests.reports.conftest import NOON, machine


def claim(name: str, **figure: list[float]) -> Claimed:
    series = {series: np.array(values) for series, values in figure.items()}
    return Claimed.of(Claim(name, "a source <found>", "0.5", "at most 1", "holds", series))


def record(*claims: Claimed, hours: int = 0, name: str = "theory-spectral") -> Theory:
    created = NOON.replace(hour=12 + hours)
    return Theory(name=name, created=created, environment=machine("Zen 4"), claims=list(claims), seconds=1.0)


def test_a_row_a_claim_of_the_latest_record():
    table = theory_table([record(claim("new"), claim("newer"), hours=1), record(claim("old"))])
    assert table.claim.tolist() == ["new", "newer"] and set(table.verdict) == {"holds"}
    assert theory_table([]).empty


@pytest.mark.parametrize("figure", [{"x": [0.1, 1.0, 10.0], "y": [1.0, 2.0, 3.0]}, {"y": [1.0, float("nan")]}])
def test_a_figure_says_its_series_names(figure):
    (row,) = claim_rows([record(claim("a claim", **figure))])
    assert row.plot and ">y<" in row.plot.svg and ">x<" not in row.plot.svg


def test_a_claim_without_a_figure_has_none():
    assert claim_rows([record(claim("a claim"))])[0].plot is None


def test_the_page_shows_claim_measurement_and_verdict(tmp_path):
    write(record(claim("Two objectives are one", y=[1.0, 2.0])), tmp_path / "evidence")
    written = write_report(tmp_path / "evidence", tmp_path)
    page = written.page.read_text()
    assert "<td>Two objectives are one</td>" in page and "<td>holds</td>" in page
    assert "a source &lt;found&gt;" in page and "a source <found>" not in page
    assert written.theory_csv and "Two objectives are one" in written.theory_csv.read_text()
