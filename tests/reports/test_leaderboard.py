"""Every number of a row recomputed by hand; which baseline belongs to which run; spread; ranking."""

import math

import numpy as np
import pytest

from twoview.reports.cells import fields
from twoview.reports.leaderboard import COLUMNS, leaderboard
from twoview.reports.over_seeds import COLUMNS as SUMMARY_COLUMNS
from twoview.reports.over_seeds import summary


def test_a_row_shows_the_record(make):
    table = leaderboard(
        [
            make.run(knn=79.0, linear=81.0, name="simclr-0", training=make.training, ceilings=make.ceilings),
            make.run("untrained", knn=75.0, linear=77.5),
            make.run("pixels", knn=82.25, linear=80.0),
        ]
    )
    assert list(table.columns) == list(fields(COLUMNS))
    assert len(table) == 1
    row = table.iloc[0]
    assert row["rank"] == 1
    assert (row["method"], row["dataset"], row["backbone"]) == ("simclr", "fashion-mnist", "resnet-small")
    assert (row["resolution"], row["epochs"], row["batch"], row["seed"]) == (32, 3, 256, 0)
    assert (row["precision"], row["device"], row["machine"]) == ("bf16", "cpu", "CPU, Zen 4 x2, 8 GiB")
    assert (row["knn_top1"], row["untrained_knn_top1"], row["pixels_knn_top1"]) == (79.0, 75.0, 82.25)
    assert (row["linear_top1"], row["untrained_linear_top1"], row["pixels_linear_top1"]) == (81.0, 77.5, 80.0)
    assert row["knn_gain"] == 4.0
    assert row["seconds_per_epoch"] == 9.0
    assert row["views_per_s"] == pytest.approx(20_000 / 9)
    assert row["data_wait_share"] == pytest.approx(0.1)
    assert (row["loader_views_per_s"], row["model_views_per_s"]) == (5_000.0, 2_500.0)
    assert row["efficiency"] == pytest.approx(20_000 / 9 / 2_500)
    assert row["bottleneck"] == "model"
    assert row["peak_memory_mib"] == 900.0
    assert math.isnan(row["peak_device_mib"])
    assert (row["train_images"], row["test_images"]) == (10_000, 5_000)
    assert row["commit"] == "0123456789abcdef0123456789abcdef01234567-dirty"
    assert (row["date"], row["name"]) == ("2026-03-01T13:00:00Z", "simclr-0")


def test_top1_has_its_top5_and_its_interval(make):
    run = make.run(knn=79.0)
    knn = make.probed(79.0, top5=97.5, interval=(77.8, 80.1))
    probes = {
        "knn": knn,
        "knn-10": knn.model_copy(update={"top1": 82.0}),
        "linear": knn.model_copy(update={"top5": None}),
    }
    with_probes = run.model_copy(update={"accuracy": run.accuracy.model_copy(update={"probes": probes})})
    row = leaderboard([with_probes]).iloc[0]
    assert (row["knn_top5"], row["knn_top1_low"], row["knn_top1_high"]) == (97.5, 77.8, 80.1)
    assert row["knn10_top1"] == 82.0
    assert math.isnan(row["linear_top5"]) and row["linear_top1_high"] == 80.1
    older = leaderboard([run]).iloc[0]
    draws = np.random.default_rng(0).binomial(5_000, 0.79, 100_000) / 50  # test images drawn anew
    assert [older["knn_top1_low"], older["knn_top1_high"]] == pytest.approx(
        np.quantile(draws, [0.025, 0.975]), abs=0.05
    )
    assert math.isnan(older["knn_top5"]) and math.isnan(older["knn10_top1"]), "older records have none"


def test_a_row_names_its_knn_rule(make):
    run = make.run()
    assert leaderboard([run])["knn_rule"].tolist() == [""], "this record does not say it"
    run = run.model_copy(update={"recipe": {**run.recipe, "probe": {"k": 20, "temperature": 0.07}}})
    assert leaderboard([run])["knn_rule"].tolist() == ["k = 20, cosine, weighted at 0.07"]
    assert summary(leaderboard([run]))["knn_rule"].tolist() == ["k = 20, cosine, weighted at 0.07"]


def test_a_row_says_that_views_are_changed(make):
    """Runs with different changes of one preset are not seeds of one recipe."""
    table = {"preset": "simclr-cifar", "gray": False, "2": {"flip": 0.0}}
    rows = leaderboard([make.run(views="simclr-cifar"), make.run(views=table), make.run(views=table | {"gray": 0.1})])
    assert sorted(rows["views"]) == ["simclr-cifar", "simclr-cifar, changed", "simclr-cifar, changed"]
    assert rows["recipe_hash"].nunique() == 3


def test_what_was_not_measured_is_empty(make):
    row = leaderboard([make.run()]).iloc[0]
    for column in ("untrained_knn_top1", "pixels_linear_top1", "knn_gain", "views_per_s", "efficiency"):
        assert math.isnan(row[column]), column
    for column in ("precision", "device", "bottleneck"):
        assert row[column] == "", column


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"dataset": "cifar10"},
        {"size": 64},
        {"test_images": 1_000},
        {"cpu": "Zen 5"},
        {"backbone": {"name": "resnet18"}},
        {"backbone": {"name": "resnet-small", "width": 64}},
    ],
    ids=str,
)
def test_an_untrained_encoder_with_other_settings_is_no_baseline(make, other):
    row = leaderboard([make.run(), make.run("untrained", knn=75.0, **other)]).iloc[0]
    assert math.isnan(row["untrained_knn_top1"])
    assert math.isnan(row["knn_gain"])


def test_baselines_are_shared_by_methods_and_pixels_by_backbones(make):
    table = leaderboard(
        [
            make.run(method="simclr"),
            make.run(method="supervised", backbone="resnet18"),
            make.run(method="byol", knn=80.0),
            make.run("untrained", knn=75.0),
            make.run("pixels", knn=82.0),
        ]
    ).set_index("method")
    assert table["knn_gain"].to_dict() == pytest.approx(
        {"byol": 5.0, "simclr": 4.0, "supervised": math.nan}, nan_ok=True
    )
    assert (table["pixels_knn_top1"] == 82.0).all()


def test_the_latest_baseline_counts_whatever_the_order(make):
    run, old, new = make.run(), make.run("untrained", knn=70.0), make.run("untrained", knn=75.0)
    for runs in ([run, old, new], [new, old, run]):
        assert leaderboard(runs)["untrained_knn_top1"].tolist() == [75.0]


def test_machines_and_datasets_never_share_a_ranking(make):
    table = leaderboard(
        [
            make.run(knn=79.0, name="a", cpu="Zen 4"),
            make.run(knn=80.0, name="b", cpu="Zen 4"),
            make.run(knn=80.0, name="c", cpu="Zen 4"),
            make.run(knn=70.0, name="d", cpu="Zen 5"),
            make.run(knn=60.0, name="e", cpu="Zen 4", dataset="cifar10"),
        ]
    ).set_index("name")
    assert table["rank"].to_dict() == {"a": 3, "b": 1, "c": 1, "d": 1, "e": 1}
    assert len(summary(table.reset_index())) == 3


def test_the_summary_has_the_spread_over_seeds(make):
    runs = []
    for seed, (knn, untrained) in enumerate([(78.0, 75.0), (79.0, 75.5), (81.0, 76.0)]):
        runs.append(make.run(knn=knn, seed=seed, training=make.training, ceilings=make.ceilings))
        runs.append(make.run("untrained", knn=untrained, seed=seed))
    over_seeds = summary(leaderboard(runs))
    assert list(over_seeds.columns) == list(fields(SUMMARY_COLUMNS))
    assert len(over_seeds) == 1
    row = over_seeds.iloc[0]
    assert (row["seeds"], row["gain_seeds"]) == (3, 3)
    assert row["knn_top1_mean"] == pytest.approx(238 / 3)
    assert row["knn_top1_sd"] == pytest.approx(math.sqrt(7 / 3))  # deviations -5/3, -2/3, 7/3; sum of squares 14/3
    assert (row["knn_top1_min"], row["knn_top1_max"]) == (78.0, 81.0)
    assert row["knn_gain_mean"] == pytest.approx((3.0 + 3.5 + 5.0) / 3)
    assert (row["knn_gain_min"], row["knn_gain_max"]) == (3.0, 5.0)
    assert row["efficiency"] == pytest.approx(20_000 / 9 / 2_500)
    assert row["bottleneck"] == "model"


def test_one_seed_has_no_spread(make):
    row = summary(leaderboard([make.run()])).iloc[0]
    assert row["seeds"] == 1
    assert math.isnan(row["knn_top1_sd"])
    assert (row["gain_seeds"], row["knn_top1_mean"]) == (0, 79.0)
    assert math.isnan(row["knn_gain_mean"])


def test_another_setting_is_not_another_seed(make):
    over_seeds = summary(
        leaderboard([make.run(seed=0), make.run(seed=1, method={"name": "simclr", "temperature": 0.1})])
    )
    assert over_seeds["seeds"].tolist() == [1, 1]


def test_a_seed_inside_the_recipe_does_not_separate_the_seeds(make):
    runs = [make.run(seed=seed) for seed in range(3)]
    runs = [run.model_copy(update={"recipe": run.recipe | {"seed": run.seed}}) for run in runs]
    assert summary(leaderboard(runs))["seeds"].tolist() == [3]


def test_a_repeated_seed_counts_once_by_its_latest_run(make):
    over_seeds = summary(
        leaderboard([make.run(seed=0, knn=70.0), make.run(seed=0, knn=80.0), make.run(seed=1, knn=82.0)])
    )
    assert over_seeds["seeds"].tolist() == [2]
    assert over_seeds["knn_top1_mean"].tolist() == [81.0]


def test_no_runs_give_empty_tables_with_their_columns():
    table = leaderboard([])
    assert list(table.columns) == list(fields(COLUMNS)) and table.empty
    assert list(summary(table).columns) == list(fields(SUMMARY_COLUMNS)) and summary(table).empty


def test_a_recipe_without_a_required_key_is_an_error_that_names_the_key(make):
    run = make.run()
    recipe = {key: value for key, value in run.recipe.items() if key != "dataset"}
    with pytest.raises(ValueError, match="dataset"):
        leaderboard([run.model_copy(update={"recipe": recipe})])
