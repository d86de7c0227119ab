"""What TensorBoard, MLflow and Weights & Biases receive; TensorBoard's files are read by its own reader."""

import json
import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from twoview.bench.config import recipe
from twoview.bench.training import loggers
from twoview.cli import run
from twoview.methods.trainer import History

RECIPE = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 2
batch = 16
train_images = 48
precision = "fp32"
loader_threads = 1
checkpoint_steps = 2
[method]
name = "simclr"
hidden = 16
projection = 8
[backbone]
width = 8
[probe]
train_images = 60
test_images = 60
"""


@pytest.fixture
def tiny(tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(RECIPE)
    return file


def test_tensorboard_has_what_the_record_has(tiny, betons, tmp_path, capsys):
    out, words = tmp_path / "out", ["--betons", str(betons), "--log", "tensorboard"]
    assert run(["train", str(tiny), "--out", str(out), *words]) == 0
    checkpoint = str(out / "checkpoints" / "tiny-seed0.pt")
    assert run(["probe", checkpoint, *words, "--evidence-dir", str(out / "evidence")]) == 0
    record = json.loads((out / "evidence" / "tiny-seed0.json").read_text())

    read = EventAccumulator(str(out / "tensorboard" / "tiny-seed0"))
    read.Reload()
    training, accuracy = record["training"], record["accuracy"]
    wanted = {
        "loss": dict(enumerate(training["losses"])),
        "epoch_seconds": dict(zip((2, 5), training["epoch_seconds"], strict=True)),
        "wait_seconds": dict(zip((2, 5), training["wait_seconds"], strict=True)),
        "knn_top1": {6: accuracy["knn_top1"]},
        "linear_top1": {6: accuracy["linear_top1"]},
    }
    found = {name: {event.step: event.value for event in read.Scalars(name)} for name in wanted}
    assert found == {name: pytest.approx(values, rel=1e-6) for name, values in wanted.items()}
    assert b'"batch": 16' in read.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0]


def test_values_of_an_epoch_are_written_once():
    written = []
    history = History(losses=[5.0], epoch_seconds=[1.0], wait_seconds=[0.0])
    gains = loggers.Gains(SimpleNamespace(write=written.extend), history)
    gains()
    assert written == []
    history.losses += [4.0, 3.0]
    gains()
    history.losses.append(2.0)
    history.open_seconds, history.open_wait, history.open_logged = 8.0, 0.5, {"online_knn_top1": [60.0]}
    history.close_epoch()
    gains()
    history.losses.append(1.0)
    history.close_epoch()  # without a kNN accuracy
    gains()
    assert written == [
        ("loss", 4.0, 1),
        ("loss", 3.0, 2),
        ("loss", 2.0, 3),
        ("epoch_seconds", 8.0, 3),
        ("wait_seconds", 0.5, 3),
        ("online_knn_top1", 60.0, 3),
        ("loss", 1.0, 4),
        ("epoch_seconds", 0.0, 4),
        ("wait_seconds", 0.0, 4),
    ]


class FakeMLflow:
    """The functions of mlflow 3.17 that are used, with the same parameters."""

    def __init__(self):
        self.runs, self.params, self.batches = [], {}, []
        self.entities = SimpleNamespace(Metric=lambda key, value, timestamp, step: (key, value, step))

    def set_experiment(self, experiment_name=None):
        self.experiment = experiment_name

    def start_run(self, run_id=None, experiment_id=None, run_name=None):
        self.runs.append((run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "made"))

    def log_params(self, params, synchronous=None, run_id=None):
        self.params |= params

    def MlflowClient(self):
        return self

    def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        self.batches.append((run_id, list(metrics)))

    def end_run(self, status="FINISHED"):
        self.status = status


def test_mlflow_gets_batches_and_a_resumed_run(tiny, tmp_path, monkeypatch):
    mlflow = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    one = recipe.load(str(tiny))
    logger = loggers.open_logger("mlflow", one, tmp_path, go_on=False)
    logger.write([loggers.Scalar("loss", 1 / (1 + step), step) for step in range(2500)])
    logger.close()
    assert [len(metrics) for _, metrics in mlflow.batches] == [1000, 1000, 500]
    assert mlflow.batches[2][1][-1] == ("loss", 1 / 2500, 2499) and mlflow.status == "FINISHED"
    assert mlflow.params["optim.lr"] == one.optim.lr and mlflow.params["batch"] == 16
    loggers.open_logger("mlflow", one, tmp_path, go_on=True).write([loggers.Scalar("knn_top1", 50.0, 2500)])
    assert mlflow.runs == [(None, "tiny-seed0"), ("made", "tiny-seed0")] and mlflow.batches[-1][0] == "made"


def test_wandb_gets_every_value_and_a_resumed_run(tiny, tmp_path, monkeypatch):
    begun, logged = [], []

    def init(project=None, dir=None, id=None, name=None, config=None, resume=None):
        begun.append((project, id, name, resume, config["batch"]))
        return SimpleNamespace(id=id or "made", log=lambda data, step=None: logged.append((data, step)))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    one = recipe.load(str(tiny))
    loggers.open_logger("wandb", one, tmp_path, go_on=False).write([loggers.Scalar("loss", 2.0, 0)])
    loggers.open_logger("wandb", one, tmp_path, go_on=True).write([loggers.Scalar("knn_top1", 50.0, 1)])
    assert begun == [("twoview", None, "tiny-seed0", "allow", 16), ("twoview", "made", "tiny-seed0", "allow", 16)]
    assert logged == [({"loss": 2.0}, 0), ({"knn_top1": 50.0}, 1)]


@pytest.mark.parametrize("name", loggers.LOGGERS)
def test_a_missing_package_is_reported_in_one_sentence(name, tiny, betons, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    words = ["--out", str(tmp_path / "out"), "--betons", str(betons), "--log", name]
    assert run(["train", str(tiny), *words]) == 2
    assert capsys.readouterr().err.endswith(
        f"twoview: --log {name}: the package {name} is not installed: pip install {name}\n"
    )
