"""Loader rates recomputed by hand, and the ratio taken round by round."""

import math

import pytest

from reports.loader_table import COLUMNS, latest, loader_table


def test_median_interquartile_range_views_and_the_paired_ratio(make):
    rates = {"twoview": [100.0, 200.0, 400.0, 300.0], "torchvision": [50.0, 40.0, 100.0, 100.0]}
    table = loader_table([make.loader(rates, first_batch_s={"twoview": 0.5, "torchvision": 1.5})])
    assert list(table.columns) == COLUMNS
    assert table["contestant"].tolist() == ["twoview", "torchvision"]
    ours, peer = table.iloc[0], table.iloc[1]
    assert (ours["images_per_s"], ours["views_per_s"], ours["ours_over_it"]) == (250.0, 500.0, 1.0)
    assert ours["images_per_s_iqr"] == 325.0 - 175.0
    # Ratios 2, 5, 4, 3 in the four rounds: the median is 3.5, while the ratio of the medians would be 3.33.
    assert (peer["images_per_s"], peer["ours_over_it"]) == (75.0, 3.5)
    assert (peer["first_batch_s"], peer["rounds"], peer["note"]) == (1.5, 4, "")


def test_a_peer_that_was_absent_is_named_and_has_no_rate(make):
    row = loader_table([make.loader({"twoview": [100.0]}, notes={"dali": "not installed"})]).iloc[1]
    assert (row["contestant"], row["note"], row["rounds"]) == ("dali", "not installed", 0)
    assert all(math.isnan(row[column]) for column in ("images_per_s", "views_per_s", "ours_over_it", "first_batch_s"))


def test_one_round_has_no_interquartile_range(make):
    assert math.isnan(loader_table([make.loader({"twoview": [100.0]})])["images_per_s_iqr"].iloc[0])


@pytest.mark.parametrize(
    "rates", [{"ffcv": [1.0]}, {"twoview": [1.0, 2.0], "ffcv": [1.0]}], ids=["no ours", "unpaired"]
)
def test_rounds_that_do_not_pair_have_no_ratio(make, rates):
    table = loader_table([make.loader(rates)]).set_index("contestant")
    assert math.isnan(table.loc["ffcv", "ours_over_it"])


def test_ours_first_then_the_fastest(make):
    table = loader_table([make.loader({"slow": [1.0], "fast": [9.0], "twoview": [5.0]})])
    assert table["contestant"].tolist() == ["twoview", "fast", "slow"]


def test_the_latest_record_of_each_workload(make):
    old, new = make.loader({"twoview": [1.0]}, name="z"), make.loader({"twoview": [2.0]}, name="a")
    small, elsewhere = make.loader({"twoview": [3.0]}, size=32), make.loader({"twoview": [4.0]}, cpu="Zen 5")
    table = loader_table([new, old, small, elsewhere])
    assert len(table) == 4
    assert sorted(latest(table)["images_per_s"]) == [2.0, 3.0, 4.0]


def test_records_of_one_name_in_two_folders_are_told_apart_by_their_date(make):
    table = loader_table([make.loader({"twoview": [rate]}, name="loader-32") for rate in (1.0, 2.0)])
    assert latest(table)["images_per_s"].tolist() == [2.0]


def test_no_records_give_an_empty_table_with_its_columns():
    table = loader_table([])
    assert list(table.columns) == COLUMNS and table.empty and latest(table).empty
