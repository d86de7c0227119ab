"""Recipes compared with their base: known differences, the closed form of their interval, and the changes."""

import math

import pytest

from twoview.bench.config import recipe
from twoview.bench.evidence import write
from twoview.reports.cells import fields
from twoview.reports.report import write_report
from twoview.reports.variants import COLUMNS, variants_table

BASE, WARMER, LOCAL, SPECTRAL = (
    recipe.load(f"rank-cifar10{ending}").model_dump(mode="json")
    for ending in ("", "-temperature-0.2", "-local", "-spectral")
)


def runs(make, values, accuracies, **fields):
    """One run per kNN accuracy, each with its own seed; the linear probe's accuracy is two points higher."""
    made = [make.run(knn=knn, linear=knn + 2, seed=seed, **fields) for seed, knn in enumerate(accuracies)]
    return [run.model_copy(update={"recipe": values | {"seed": run.seed}}) for run in made]


def rows(records):
    return {row["recipe"]: row for _, row in variants_table(records).iterrows()}


def test_a_recipe_is_compared_with_its_base_seed_by_seed(make):
    found = rows([*runs(make, BASE, [40.0, 41.0, 42.0]), *runs(make, WARMER, [42.0, 43.5, 43.5])])
    assert list(found) == ["rank-cifar10", "rank-cifar10-temperature-0.2"], "the base comes first"
    row = found["rank-cifar10-temperature-0.2"]
    assert (row["seeds"], row["dataset"], row["changes"]) == (3, "cifar10", "method.temperature = 0.2")
    assert row["knn_difference"] == pytest.approx(2)
    reach = 4.302653 * 0.5 / math.sqrt(3)  # Student's quantile for two degrees of freedom; 2, 2.5 and 1.5 have sd 0.5
    assert (row["knn_low"], row["knn_high"]) == (pytest.approx(2 - reach), pytest.approx(2 + reach))
    assert (row["knn_verdict"], row["linear_verdict"]) == ("better", "better")
    base = found["rank-cifar10"]
    assert (base["knn_top1_mean"], base["knn_top1_sd"], base["linear_top1_mean"]) == (41, 1, 43)
    assert math.isnan(base["knn_difference"]) and (base["changes"], base["knn_verdict"]) == ("", "")


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [([38.0, 39.1, 40.0], "worse"), ([40.0, 39.0, 43.0], "not resolved"), ([50.0, 51.1], "not resolved")],
)
def test_a_verdict_is_the_sign_of_the_interval_of_at_least_three_seeds(make, accuracies, verdict):
    records = [*runs(make, BASE, [40.0, 41.0, 42.0]), *runs(make, LOCAL, accuracies)]
    assert rows(records)["rank-cifar10-local"]["knn_verdict"] == verdict


def test_changes_come_from_the_recipes_and_epochs_have_a_column(make):
    records = [run for values in (BASE, LOCAL, SPECTRAL) for run in runs(make, values, [40.0])]
    found = rows(records)
    assert found["rank-cifar10-local"]["changes"] == "views = kobak-cifar-local"
    assert found["rank-cifar10-local"]["epochs"] == 27 and found["rank-cifar10"]["epochs"] == 40
    assert found["rank-cifar10-spectral"]["changes"] == "method.name = kernel-infonce, method.loss = spectral"


def test_changed_views_are_one_change(make):
    """A change that only the base has is one too."""
    off, half = (
        recipe.with_values(recipe.parse(BASE, "base"), {f"views.{key}": False for key in keys}).views
        for keys in (("flip", "gray"), ("gray",))
    )
    records = [*runs(make, BASE | {"views": off}, [40.0]), *runs(make, LOCAL | {"views": half, "epochs": 40}, [40.0])]
    assert rows(records)["rank-cifar10-local"]["changes"] == 'views = {preset = "simclr-cifar", gray = false}'


def test_the_seconds_are_of_all_epochs_of_the_fastest_seed(make):
    slow = make.training.model_copy(update={"epoch_seconds": [9.0, 10.0, 9.0]})
    base = [*runs(make, BASE, [40.0], training=slow), *runs(make, BASE, [0.0, 41.0], training=make.training)[1:]]
    found = rows([*base, *runs(make, WARMER, [40.0])])
    assert found["rank-cifar10"]["training_s"] == 27
    assert found["rank-cifar10"]["views_per_s"] == pytest.approx(make.training.views_per_epoch / 9)
    assert math.isnan(found["rank-cifar10-temperature-0.2"]["training_s"])


def test_other_machines_other_settings_and_missing_bases_are_not_compared(make):
    base = runs(make, BASE, [40.0])
    assert variants_table(runs(make, WARMER, [40.0])).empty and variants_table(base).empty
    assert variants_table([*base, *runs(make, WARMER, [40.0], cpu="Zen 5")]).empty
    changed = [run.model_copy(update={"overrides": {"optim.lr": 3}}) for run in runs(make, WARMER, [40.0])]
    assert variants_table([*base, *changed]).empty
    assert list(variants_table([]).columns) == list(fields(COLUMNS))


def test_a_recipe_that_can_no_longer_be_read_is_shown_without_its_changes(make):
    records = [*runs(make, BASE, [40.0]), *runs(make, WARMER | {"key-of-the-future": 1}, [41.0])]
    assert rows(records)["rank-cifar10-temperature-0.2"]["changes"] == "a recipe that this version cannot read"


def test_the_page_and_the_csv_show_the_table(make, tmp_path):
    for run in [*runs(make, BASE, [40.0, 41.0, 42.0]), *runs(make, WARMER, [42.0, 43.5, 43.5])]:
        write(run, tmp_path / "e")
    report = write_report(tmp_path / "e", tmp_path)
    assert "method.temperature = 0.2,cifar10,3" in report.files["variants.csv"].read_text()
    page = report.files["index.html"].read_text()
    assert "Recipes compared with their base" in page and "rank-cifar10. " in page
    assert "+2.00 (+0.76 to +3.24)" in page and "41.00 ± 1.00" in page
    assert "variants.csv" not in write_report_without_variants(make, tmp_path).files


def write_report_without_variants(make, tmp_path):
    write(make.run(), tmp_path / "other")
    return write_report(tmp_path / "other", tmp_path / "out")
