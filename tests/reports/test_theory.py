"""One row per claim, with its verdict and its figure."""

import re

import numpy as np
import pytest

from tests.reports.conftest import NOON, machine
from twoview.bench.evidence import Claimed, Theory, load, write
from twoview.bench.evidence.claims import Claim, Phase, Scatter
from twoview.reports.report import write_report
from twoview.reports.theory import theory_plots, theory_table


def claim(name: str, **figure: list[float]) -> Claimed:
    series = {series: np.array(values) for series, values in figure.items()}
    return Claimed.of(Claim(name, "a source <found>", "0.5", "at most 1", "holds", series))


def record(*claims: Claimed, hours: int = 0, name: str = "theory-spectral") -> Theory:
    created = NOON.replace(hour=12 + hours)
    return Theory(name=name, created=created, environment=machine("Zen 4"), claims=list(claims), seconds=1.0)


def test_the_latest_record_has_one_row_per_claim():
    table = theory_table([record(claim("new"), claim("newer"), hours=1), record(claim("old"))])
    assert table.claim.tolist() == ["new", "newer"] and set(table.verdict) == {"holds"}
    assert theory_table([]).empty


@pytest.mark.parametrize("figure", [{"over tau": [0.1, 1.0, 10.0], "y": [1.0, 2.0, 3.0]}, {"y": [1.0, float("nan")]}])
def test_a_figure_shows_the_names_of_its_series(figure):
    ((plot,),) = theory_plots([record(claim("a claim", **figure))])
    assert "$" not in plot.svg, "formulas would be shown as their source"
    assert ">y<" in plot.svg and (">tau<" in plot.svg) == ("over tau" in figure) and plot.caption == "a claim: y."


def test_a_claim_without_a_figure_has_no_plot():
    assert theory_plots([record(claim("a claim"))]) == [[]]


def test_points_are_marked_by_their_class():
    points = Scatter(np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.25, 1 / 3]), np.array([0, 1, 0]))
    panels = Claim("a claim", "s", "m", "e", "holds", scatter={"before": points, "after": points, "without": points})
    ((plot,),) = theory_plots([record(Claimed.of(panels))])
    assert all(f">{title}<" in plot.svg for title in panels.scatter)
    assert plot.caption == "a claim: points marked by their class; before; after; without."
    assert plot.svg.count("<use") == 9 and plot.svg.count("var(--second)") >= 3
    assert Claimed.of(panels).scatter["before"].y == [0.5, 0.25, 0.3333]


def test_a_grid_has_its_values_its_axes_and_one_scale():
    low, high = np.array([[0.1, 0.2], [0.3, float("nan")]]), np.array([[0.5, 0.6], [0.7, 0.94]])
    keep, noise = np.array([0.25, 0.5]), np.array([0.01, 0.3])
    panels = {title: Phase("keep", keep, "noise", noise, value) for title, value in (("one", low), ("two", high))}
    one = Claimed.of(Claim("a claim", "s", "m", "e", "holds", phase=panels))
    ((plot,),) = theory_plots([record(one)])
    assert plot.caption == "a claim: one; two; over keep and noise, from 0.1 to 0.94."
    cells = [value for panel in (low, high) for value in panel.ravel() if not np.isnan(value)]
    assert all(plot.svg.count(f">{value:.2g}<") >= 1 for value in cells) and "nan" not in plot.svg
    assert plot.svg.count(">keep<") == plot.svg.count(">noise<") == 2
    assert "var(--accent)" in plot.svg and "#" not in "".join(re.findall(r"fill: [^;\"]+", plot.svg))


def test_the_table_of_samples_has_points_and_grids(tmp_path):
    points = Scatter(np.array([0.0]), np.array([0.5]), np.array([7]))
    grid = Phase("keep", np.array([0.25, 0.5]), "noise", np.array([0.01]), np.array([[0.1, 0.2]]))
    one = Claimed.of(Claim("a claim", "s", "m", "e", "holds", scatter={"here": points}, phase={"there": grid}))
    write(record(one), tmp_path)
    values = {(row.metric, row.sample): row.value for row in load(tmp_path).itertuples() if row.of == "a claim"}
    assert values == {
        ("here, x", 0): 0,
        ("here, y", 0): 0.5,
        ("here, label", 0): 7,
        ("there", 0): 0.1,
        ("there", 1): 0.2,
    }


def test_the_page_shows_claim_measurement_and_verdict(tmp_path):
    write(record(claim("Two objectives are one", y=[1.0, 2.0])), tmp_path / "evidence")
    written = write_report(tmp_path / "evidence", tmp_path)
    page = written.files["index.html"].read_text()
    assert "<td>Two objectives are one</td>" in page and "<td>holds</td>" in page
    assert "a source &lt;found&gt;" in page and "a source <found>" not in page
    assert "Two objectives are one" in written.files["theory.csv"].read_text()
