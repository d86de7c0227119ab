"""Loader rates recomputed by hand, and the ratio taken round by round."""

import math
from datetime import timedelta

import pytest

from twoview.bench.dataloader.targets import SIMCLR
from twoview.bench.evidence import ConvertRates
from twoview.reports.cells import fields
from twoview.reports.loader_table import COLUMNS, REQUIRED_COLUMNS, latest, loader_table, required_table


def test_a_row_has_median_interquartile_range_and_paired_ratio(make):
    rates = {"twoview": [100.0, 200.0, 400.0, 300.0], "torchvision": [50.0, 40.0, 100.0, 100.0]}
    table = loader_table([make.loader(rates, first_batch_s={"twoview": 0.5, "torchvision": 1.5})])
    assert list(table.columns) == list(fields(COLUMNS))
    assert table["contestant"].tolist() == ["twoview", "torchvision"]
    ours, peer = table.iloc[0], table.iloc[1]
    assert (ours["images_per_s"], ours["views_per_s"], ours["ours_over_it"]) == (250.0, 500.0, 1.0)
    assert ours["images_per_s_iqr"] == 325.0 - 175.0
    # Ratios 2, 5, 4, 3 in the four rounds: the median is 3.5, while the ratio of the medians would be 3.33.
    assert (peer["images_per_s"], peer["ours_over_it"]) == (75.0, 3.5)
    assert (peer["first_batch_s"], peer["rounds"], peer["note"]) == (1.5, 4, "")


def test_an_unavailable_peer_is_named_and_has_no_rate(make):
    row = loader_table([make.loader({"twoview": [100.0]}, notes={"dali": "not installed"})]).iloc[1]
    assert (row["contestant"], row["note"], row["rounds"]) == ("dali", "not installed", 0)
    assert all(math.isnan(row[column]) for column in ("images_per_s", "views_per_s", "ours_over_it", "first_batch_s"))


def test_one_round_has_no_interquartile_range(make):
    assert math.isnan(loader_table([make.loader({"twoview": [100.0]})])["images_per_s_iqr"].iloc[0])


@pytest.mark.parametrize(
    "rates", [{"ffcv": [1.0]}, {"twoview": [1.0, 2.0], "ffcv": [1.0]}], ids=["no ours", "unpaired"]
)
def test_unpaired_rounds_have_no_ratio(make, rates):
    table = loader_table([make.loader(rates)]).set_index("contestant")
    assert math.isnan(table.loc["ffcv", "ours_over_it"])


def test_ours_comes_first_and_then_the_fastest(make):
    table = loader_table([make.loader({"slow": [1.0], "fast": [9.0], "twoview": [5.0]})])
    assert table["contestant"].tolist() == ["twoview", "fast", "slow"]


def test_the_latest_record_of_each_workload_counts(make):
    old, new = make.loader({"twoview": [1.0]}, name="z"), make.loader({"twoview": [2.0]}, name="a")
    small, elsewhere = make.loader({"twoview": [3.0]}, size=32), make.loader({"twoview": [4.0]}, cpu="Zen 5")
    table = loader_table([new, old, small, elsewhere])
    assert len(table) == 4
    assert sorted(latest(table)["images_per_s"]) == [2.0, 3.0, 4.0]


def test_the_latest_of_two_records_with_the_same_name_counts(make):
    table = loader_table([make.loader({"twoview": [rate]}, name="loader-32") for rate in (1.0, 2.0)])
    assert latest(table)["images_per_s"].tolist() == [2.0]


def test_no_records_give_an_empty_table_with_its_columns():
    table = loader_table([])
    assert list(table.columns) == list(fields(COLUMNS)) and table.empty and latest(table).empty


def test_memory_and_the_first_batch_are_in_their_contestants_row(make):
    record = make.loader(
        {"twoview": [100.0], "ffcv": [50.0]},
        peak_mib={"twoview": 800.0, "ffcv": 1700.0},
        added_mib={"twoview": 300.0, "ffcv": 1000.0},
        batch=256,
        batch_mib=73.5,
        first_batch_empty_cache_s=20.0,
    )
    ours, ffcv = (row for _, row in loader_table([record]).iterrows())
    assert (ours["peak_mib"], ours["added_mib"], ours["batch"], ours["batch_mib"]) == (800.0, 300.0, 256, 73.5)
    assert (ffcv["peak_mib"], ffcv["added_mib"]) == (1700.0, 1000.0)
    assert ours["first_batch_empty_cache_s"] == 20.0 and math.isnan(ffcv["first_batch_empty_cache_s"])


def test_requirements_are_compared_with_measurements_including_shortfalls(make):
    rates = {"twoview": [1200.0, 1300.0], "torchvision": [100.0, 110.0], "decode": [2500.0, 2600.0]}
    memory = {"twoview": 800.0, "ffcv": 1600.0}
    record = make.loader(rates, name=SIMCLR.name, first_batch_s={"twoview": 2.5}, peak_mib=memory)
    old = make.loader(
        {"twoview": [1.0], "torchvision": [1.0]}, name=SIMCLR.name, created=record.created - timedelta(days=1)
    )
    convert = ConvertRates(
        name="convert-photographs",
        environment=record.environment,
        dataset="photographs",
        images=320,
        threads=2,
        images_per_s={"twoview": [900.0], "ffcv": [100.0]},
    )
    table = required_table([old, record, convert])
    assert list(table.columns) == list(fields(REQUIRED_COLUMNS))
    assert [tuple(row) for row in table[["metric", "measured", "required", "met"]].itertuples(index=False)] == [
        ("images/s, relative to torchvision", "11.91 x", "≥ 12 x", "no"),
        ("images/s, relative to decode", "0.49 x", "≥ 0.4 x", "yes"),
        ("time to first batch", "2.50 s", "≤ 2 s", "no"),
        ("peak memory, relative to ffcv", "0.50 x", "≤ 0.5 x", "yes"),
        ("images/s, relative to ffcv", "9.00 x", "≥ 3 x", "yes"),
    ]
    assert set(table["name"]) == {SIMCLR.name, "convert-photographs"}


def test_a_newer_record_without_the_figure_does_not_hide_an_older_one(make):
    older = make.loader({"twoview": [12.0], "torchvision": [1.0]}, name=SIMCLR.name, first_batch_s={"twoview": 1.0})
    newer = make.loader({"twoview": [5.0]}, name=SIMCLR.name, first_batch_s={"twoview": 3.0})
    assert required_table([older, newer])["measured"].tolist() == ["12.00 x", "3.00 s"]
    assert required_table([make.loader({"twoview": [1.0]})]).empty
