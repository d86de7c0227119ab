"""The lines parse as MLPerf's do, their intervals close, and they match the record."""

import json

import pytest

from twoview.bench.config import recipe
from twoview.bench.evidence import Accuracy, Training
from twoview.bench.training.mllog import mllog, torchtitan

TRAINING = Training(
    epoch_seconds=[2.0, 4.0],
    wait_seconds=[0.5, 0.1],
    views_per_epoch=2000,
    losses=[1.0],
    precision="fp32",
    device="cpu",
    loader_threads=1,
    model_threads=1,
    peak_host_mib=1.0,
)
ACCURACY = Accuracy(knn_top1=50.0, linear_top1=60.0, train_images=10, test_images=10)


@pytest.fixture
def events():
    lines = list(mllog(recipe.load("quick-cifar10").model_dump(mode="json"), TRAINING, 2, 1e9, ACCURACY))
    assert all(line.startswith(":::MLLOG {") for line in lines)
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]


def test_every_line_has_the_keys_of_the_format(events):
    for event in events:
        assert list(event) == ["namespace", "time_ms", "event_type", "key", "value", "metadata"]
        assert event["event_type"] in {"INTERVAL_START", "INTERVAL_END", "POINT_IN_TIME"}


def test_times_never_fall_and_intervals_close(events):
    times = [event["time_ms"] for event in events]
    assert times == sorted(times) and times[0] == 1_000_000_000_000
    started = [event["key"].removesuffix("_start") for event in events if event["event_type"] == "INTERVAL_START"]
    stopped = [event["key"].removesuffix("_stop") for event in events if event["event_type"] == "INTERVAL_END"]
    assert sorted(started) == sorted(stopped) == ["epoch", "epoch", "run"]
    assert events[-1]["key"] == "run_stop" and events[-1]["metadata"] == {"status": "success"}
    assert events[-1]["time_ms"] - times[0] == 6000


def test_throughput_is_in_images_and_accuracy_a_share(events):
    rates = [event["value"]["throughput"] for event in events if event["key"] == "tracked_stats"]
    assert rates == [500.0, 250.0]
    assert [event["value"] for event in events if event["key"] == "eval_accuracy"] == [0.5, 0.6]
    assert [event["value"] for event in events if event["key"] == "train_samples"] == [1000]


def test_results_have_torchtitans_names():
    assert torchtitan(0.02, 0.5, 2048) == {"data_loading(%)": 2.0, "mfu(%)": 50.0, "max_reserved(GiB)": 2.0}
    assert torchtitan(0.02, None, None) == {"data_loading(%)": 2.0}
