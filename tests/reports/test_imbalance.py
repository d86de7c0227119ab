"""Drops with few classes per batch: known differences, the closed form of their interval, and a verdict by its sign."""

import io
import math

import pytest
from rich.console import Console

from twoview.bench.config.assran2023 import METHODS
from twoview.bench.evidence import write
from twoview.reports.cells import fields
from twoview.reports.imbalance import COLUMNS, imbalance_table, too_small, verdict
from twoview.reports.report import write_report
from twoview.reports.terminal import show

MSN, PMSN = {"name": "msn"}, {"name": "pmsn", "prior": "power-law"}


def sweep(make, method, drops, every=60.0, few=2, **recipe):
    """Runs with 10 and with `few` classes per batch, one seed per drop of kNN; the linear probe drops half as much."""
    return [
        make.run(knn=every - lost, linear=every - lost / 2, seed=seed, method={"name": method}, **recipe, **k)
        for seed, drop in enumerate(drops)
        for lost, k in ((0.0, {"classes_per_batch": 10}), (drop, {"classes_per_batch": few}))
    ]


def msn_and_pmsn(make, gains, **recipe):
    """One run of MSN and of PMSN for each gain, each with its own seed; PMSN is better by the gain."""
    return [
        make.run(knn=50.0 + gain, linear=50.0 + gain, seed=seed, method=method, **recipe)
        for seed, gains_of in enumerate(gains)
        for gain, method in ((0.0, MSN), (gains_of, PMSN))
    ]


def rows(runs, **where):
    table = imbalance_table(runs)
    for key, value in where.items():
        table = table[table[key] == value]
    return [row for _, row in table.iterrows()]


def test_a_verdict_is_the_sign_of_the_interval():
    assert verdict([4.0, 5.0, 6.0]) == "agrees"
    assert verdict([-4.0, -5.0, -6.0]) == "contradicts"
    assert verdict([-1.0, 2.0, 3.0]) == verdict([7.0]) == "not resolved"
    assert verdict([]) == ""


def test_equal_differences_and_fewer_than_three_give_no_verdict(make):
    """Two equal ones have an interval of no width, which would agree with anything."""
    assert verdict([5.0, 5.1]) == verdict([5.0, 5.0]) == verdict([-5.0, -5.0, -5.0]) == "not resolved"
    (row,) = rows(sweep(make, "simclr", [4.2, 4.2, 4.2], every=41.62), method="simclr")
    assert (row["knn_difference"], row["knn_verdict"]) == (pytest.approx(4.2), "not resolved")
    assert math.isnan(row["knn_low"]) and math.isnan(row["knn_high"])


def test_drops_are_paired_by_seed(make):
    runs = [*sweep(make, "simclr", [3.0, 4.0, 5.0]), make.run(seed=9, method={"name": "simclr"}, classes_per_batch=2)]
    (row,) = rows(runs, method="simclr")
    assert (row["comparison"], row["dataset"], row["seeds"], row["paper"]) == (
        "K = 10 minus K = 2",
        "fashion-mnist",
        3,
        "drops",
    )
    assert row["knn_difference"] == pytest.approx(4) and row["linear_difference"] == pytest.approx(2)
    assert row["knn_high"] - row["knn_low"] == pytest.approx(2 * 4.302653 / math.sqrt(3), rel=1e-6)
    assert (row["knn_verdict"], row["linear_verdict"]) == ("agrees", "agrees")


def test_a_masked_methods_drop_is_compared_with_joint_embedding_methods(make):
    joint = sweep(make, "simclr", [6.0, 8.0, 7.0]) + sweep(make, "msn", [4.0, 6.0, 5.0])  # their means are 5, 7 and 6
    little, as_much, more = [1.0, 3.1, 2.05], [5.5, 6.0, 6.5], [8.0, 10.1, 9.0]
    for drops, judged in ((little, "agrees"), (as_much, "not resolved"), (more, "contradicts")):
        own, less = rows(joint + sweep(make, "mae", drops), method="mae")
        assert (own["paper"], own["knn_verdict"]) == ("", "")
        assert own["knn_difference"] == pytest.approx(sum(drops) / 3)
        assert less["comparison"] == "others' drop minus its own, K = 2"
        assert less["knn_difference"] == pytest.approx(6 - sum(drops) / 3)
        assert (less["paper"], less["knn_verdict"]) == ("drops less", judged)
    own, less = rows(sweep(make, "mae", little), method="mae")
    assert own["knn_difference"] == pytest.approx(2.05)
    assert math.isnan(less["knn_difference"]) and less["knn_verdict"] == ""


def test_every_smaller_k_is_compared_with_the_largest(make):
    runs = sweep(make, "vicreg", [5.0, 5.0]) + sweep(make, "vicreg", [2.0, 2.0], few=5)
    found = {row["comparison"]: row["knn_difference"] for row in rows(runs, method="vicreg")}
    assert found == {"K = 10 minus K = 2": 5.0, "K = 10 minus K = 5": 2.0}


def test_a_missing_run_is_an_empty_cell(make):
    table = imbalance_table(sweep(make, "simclr", [3.0, 4.0])[:3])  # the second seed has no K = 2
    assert table["method"].drop_duplicates().tolist() == list(METHODS) and list(table.columns) == list(fields(COLUMNS))
    assert table["seeds"].tolist()[0] == 1 and table["seeds"][1:].isna().all()
    assert table["knn_difference"][1:].isna().all() and (table["knn_verdict"][1:] == "").all()
    assert table["knn_low"].isna().all(), "one seed has no interval"


def test_pmsn_should_be_better_on_a_long_tail_and_worse_on_balanced_data(make):
    tail = {"ratio": 100.0, "kind": "exponential"}
    runs = msn_and_pmsn(make, [2.0, 2.2, 2.1], long_tail=tail) + msn_and_pmsn(make, [1.0, 1.1, 1.2])
    (on_tail,) = rows(runs, dataset="fashion-mnist, long tail 100")
    (balanced,) = rows(runs, dataset="fashion-mnist")
    assert on_tail["comparison"] == "PMSN of power-law prior minus MSN"
    assert on_tail["knn_difference"] == pytest.approx(2.1)
    assert (on_tail["paper"], on_tail["knn_verdict"]) == ("better", "agrees")
    assert (balanced["paper"], balanced["knn_verdict"]) == ("worse", "contradicts")
    (natural,) = rows(msn_and_pmsn(make, [2.0, 2.2], dataset="inat18"))
    assert natural["paper"] == "better"
    (other_msn,) = rows(msn_and_pmsn(make, [2.0], batch=64)[1:] + msn_and_pmsn(make, [2.0], batch=128)[:1])
    assert math.isnan(other_msn["knn_difference"]), "PMSN is not compared with an MSN of other settings"


def test_every_prior_is_compared_with_the_uniform_one(make):
    runs = [
        make.run(knn=knn, method={"name": "pmsn", "prior": prior}, long_tail={"ratio": 10.0})
        for prior, knn in (("uniform", 50.0), ("power-law", 51.0), ("classes", 53.0))
    ]
    assert {row["comparison"]: row["knn_difference"] for row in rows(runs)} == {
        "PMSN of classes prior minus PMSN of uniform prior": 3.0,
        "PMSN of power-law prior minus PMSN of uniform prior": 1.0,
    }
    (missing,) = rows(runs[:1])
    assert missing["comparison"] == "PMSN minus PMSN of uniform prior" and math.isnan(missing["knn_difference"])


def test_runs_without_a_sweep_or_a_prior_have_no_row(make):
    assert imbalance_table([make.run(), make.run("untrained"), make.run(method=MSN)]).empty
    assert list(imbalance_table([]).columns) == list(fields(COLUMNS))
    assert too_small(imbalance_table([])) == ""


def test_machines_are_separate_and_the_latest_run_of_a_seed_counts(make):
    again = sweep(make, "simclr", [1.0]) + sweep(make, "simclr", [5.0])
    assert [row["knn_difference"] for row in rows(again, method="simclr")] == [5.0], "the latest run of a seed counts"
    runs = sweep(make, "simclr", [1.0])[:1] + sweep(make, "simclr", [1.0], cpu="another")[1:]
    assert imbalance_table(runs).empty


def test_sweeps_that_are_too_small_are_marked(make, tmp_path):
    long = make.training.model_copy(update={"losses": [1.0] * 4000})  # of 256 images: 1,024,000
    assert "each encoder here saw at most 1,024 images" in too_small(
        imbalance_table(sweep(make, "simclr", [3.0], training=make.training))
    )
    assert too_small(imbalance_table(sweep(make, "simclr", [3.0], training=long))) == ""


def test_page_terminal_and_csv_show_the_table(make, tmp_path):
    for run in sweep(make, "simclr", [3.0, 4.0], training=make.training):
        write(run, tmp_path / "evidence")
    report = write_report(tmp_path / "evidence", tmp_path)
    console = Console(file=io.StringIO(), width=250)
    show(report, console)
    for text in (report.files["index.html"].read_text(), console.file.getvalue()):
        assert "+3.50 (-2.85 to +9.85)" in text and "not resolved" in text and "too small for any conclusion" in text
    assert "3.50,-2.85,9.85,not resolved" in report.files["imbalance.csv"].read_text()
