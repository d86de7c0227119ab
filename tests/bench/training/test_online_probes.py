"""The cost of online probes, as the record states it, and that they do not change the training."""

import io
import json
import statistics
from contextlib import redirect_stdout

import pytest
import torch

from twoview.bench.evaluation import judging
from twoview.bench.evidence import Training, trained
from twoview.bench.runtime.progress import console
from twoview.bench.training.online_probes import SHARE, warn
from twoview.cli import run
from twoview.methods import checkpoint

RECIPE = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 16
epochs = 2
batch = 32
train_images = 256
precision = "fp32"
deterministic = true
[method]
name = "simclr"
hidden = 32
projection = 16
[backbone]
width = 8
[probe]
online_knn_images = 100
"""


def record(**changes):
    measured = {
        "epoch_seconds": [10.0, 10.0],
        "wait_seconds": [0.0, 0.0],
        "views_per_epoch": 64,
        "losses": [1.0] * 40,
        "precision": "fp32",
        "device": "cpu",
        "loader_threads": 1,
        "model_threads": 1,
        "peak_host_mib": 1.0,
    }
    return Training(**measured | changes)


def test_the_share_counts_the_head_in_every_step_and_the_knn_epochs():
    assert record().online_share is None
    assert record(online_seconds=[0.001, 0.004, 0.005]).online_share == pytest.approx(40 * 0.004 / 20)
    assert record(logged={"online_knn_seconds": [0.1, 0.2]}).online_share == pytest.approx(0.3 / 20)
    both = record(online_seconds=[0.004], logged={"online_knn_seconds": [0.3]})
    assert both.online_share == pytest.approx((0.16 + 0.3) / 20)


def test_a_share_above_two_percent_is_reported():
    with console.capture() as said:
        warn(record())
        warn(record(online_seconds=[0.01]))
    assert said.get() == ""
    with console.capture() as said:
        warn(record(online_seconds=[0.01], logged={"online_knn_seconds": [0.4]}))
    assert "took 4.0% of the training time, more than 2%" in " ".join(said.get().split())


@pytest.fixture
def train(tmp_path, betons):
    """A function: name of the folder, words -> what `twoview train --json` prints."""
    recipe, threads = tmp_path / "r.toml", torch.get_num_threads()
    recipe.write_text(RECIPE)

    def train(folder, *words):
        with redirect_stdout(said := io.StringIO()):
            names = (str(recipe), "--out", str(tmp_path / folder), "--betons", str(betons))
            assert run(["train", *names, "--loss-hash", "--json", *words]) == 0
        return json.loads(said.getvalue())

    yield train
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_online_probes_do_not_change_the_training(train, tmp_path):
    alone, result = train("alone"), train("probed", "--probe.online", "--probe.online-knn-epochs", "2")
    assert alone["loss_hash"] == result["loss_hash"]
    path = tmp_path / "probed" / "checkpoints" / "r-seed0.pt"
    measured, _ = trained.measured(path)
    assert len(measured.logged["online_top1"]) == 2 and 0 < measured.logged["online_top1"][1] <= 1
    assert len(measured.logged["online_knn_top1"]) == 1 and 10 < measured.logged["online_knn_top1"][0] <= 100
    assert len(measured.online_seconds) == 20 and measured.online_share > 0
    assert result["online_share"] == pytest.approx(measured.online_share)
    encoder, _ = judging.trained_encoder(path)
    weights = checkpoint.load(path)["method"]
    for name, value in encoder.module.state_dict().items():
        assert torch.equal(value, weights[f"method.encoder.{name}"])


@pytest.mark.alone
def test_the_head_is_a_small_part_of_a_step(train, tmp_path):
    train("out", "--probe.online")
    measured, _ = trained.measured(tmp_path / "out" / "checkpoints" / "r-seed0.pt")
    share = statistics.median(measured.online_seconds) / statistics.median(measured.step_seconds)
    assert share < 10 * SHARE, "the head's share is largest for the smallest network"
