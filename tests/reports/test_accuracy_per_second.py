"""Accuracy per second of training: known means and intervals, and which recipe is the best for its time."""

import math

import pytest

from twoview.bench.evidence import write
from twoview.reports.accuracy_per_second import COLUMNS, accuracy_per_second
from twoview.reports.cells import fields
from twoview.reports.leaderboard import leaderboard
from twoview.reports.report import write_report


def runs(make, name, accuracies, seconds, method="simclr"):
    """One run per accuracy of the named recipe, each with its own seed and one epoch of the given seconds."""
    training = make.training.model_copy(update={"epoch_seconds": [seconds]})
    made = [make.run(knn=knn, seed=seed, training=training) for seed, knn in enumerate(accuracies)]
    return [
        run.model_copy(
            update={"name": f"{name}-{run.seed}", "recipe": run.recipe | {"name": name, "method": {"name": method}}}
        )
        for run in made
    ]


def rows(records):
    return {row["recipe"]: row for _, row in accuracy_per_second(leaderboard(records)).iterrows()}


def test_a_row_has_the_means_over_seeds_and_their_intervals(make):
    baselines = [
        make.run("pixels", knn=77.0),
        *(make.run("untrained", knn=60.0 + seed, seed=seed) for seed in (0, 1, 2)),
    ]
    row = rows([*baselines, *runs(make, "a", [78.0, 79.0, 80.0], 50.0)])["a"]
    assert (row["seeds"], row["training_s"], row["views_per_s"]) == (3, 50, make.training.views_per_epoch / 50)
    assert (row["knn_top1_mean"], row["knn_top1_sd"]) == (79, 1)
    reach = 4.302653 / math.sqrt(3)  # Student's quantile for two degrees of freedom, of a standard deviation of 1
    assert row["above_pixels"] == 2
    assert (row["above_pixels_low"], row["above_pixels_high"]) == (pytest.approx(2 - reach), pytest.approx(2 + reach))
    assert row["above_untrained"] == 18 and math.isnan(row["above_untrained_low"]), "equal gains have no interval"


def test_the_best_recipe_for_its_time_is_not_beaten_by_any_as_fast(make):
    quick, good, worse, drifted = (
        *(runs(make, "quick", [70.0], 10.0), runs(make, "good", [75.0], 50.0)),
        *(runs(make, "worse", [72.0], 60.0), runs(make, "drifted", [74.0], 48.5)),
    )
    found = rows([*quick, *good, *worse, *drifted, *runs(make, "labels", [90.0], 5.0, method="supervised")])
    assert list(found) == ["labels", "good", "drifted", "worse", "quick"], "the most accurate first"
    best = {name: row["best"] for name, row in found.items()}
    assert best == {"labels": "", "good": "yes", "drifted": "no", "worse": "no", "quick": "yes"}


def test_other_machines_are_not_compared_and_untimed_runs_are_skipped(make):
    other, untimed = make.run(knn=99.0, cpu="Zen 5", training=make.training), make.run(knn=98.0)
    found = rows([*runs(make, "a", [70.0], 10.0), other])
    assert {name: row["best"] for name, row in found.items()} == {"a": "yes", "quick": "yes"}
    assert not rows([untimed])
    assert list(accuracy_per_second(leaderboard([])).columns) == list(fields(COLUMNS))


def test_the_page_and_the_csv_show_the_table(make, tmp_path):
    for run in [make.run("pixels", knn=77.0), *runs(make, "a", [78.0, 79.0, 80.0], 50.0)]:
        write(run, tmp_path / "e")
    report = write_report(tmp_path / "e", tmp_path)
    page = report.files["index.html"].read_text()
    assert "Accuracy per second" in page and "+2.00 (-0.48 to +4.48)" in page
    assert "accuracy-per-second.csv" in report.files
