"""Growing views: the size of each epoch, pixels equal to a loader's of that size, and an interrupted run."""

import io
import json
from contextlib import contextmanager, redirect_stdout

import pytest
import torch

from twoview.bench.config import experiment, recipe
from twoview.bench.config.progressive import Growing, Progressive, epochs_per_side
from twoview.bench.evidence import trained
from twoview.bench.training import train as training
from twoview.cli import run
from twoview.loaders.loader import Loader
from twoview.loaders.masks import Mask
from twoview.loaders.resident import Resident
from twoview.methods import checkpoint
from twoview.methods.device_batches import DeviceBatch

RECIPE = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 4
batch = 32
train_images = 128
precision = "fp32"
deterministic = true
checkpoint_steps = 3
[progressive]
start = 12
last_epoch = 3
multiple = 4
[method]
name = "simclr"
hidden = 32
projection = 16
[backbone]
width = 8
"""
SIZES, STEPS = [12, 16, 24, 28], 16  # four steps an epoch


def test_sizes_follow_ffcvs_schedule_for_resnet_50():
    grows = Progressive(start=160, first_epoch=65, last_epoch=76)
    sides = [grows.side(192, epoch) for epoch in range(88)]
    assert sides == [160] * 71 + [192] * 17, "176 pixels, halfway between, are reached between epochs 70 and 71"
    assert epochs_per_side(sides) == {0: 71, 71: 17}
    whole = Progressive(start=128, first_epoch=0, last_epoch=4)
    assert [whole.side(224, epoch) for epoch in range(6)] == [128, 160, 192, 192, 224, 224]
    assert Progressive().side(224, 0) == 224


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("start = 12", "start = 28", "progressive.start must be below the size, 28, got 28"),
        ("multiple = 4", "", "progressive.multiple must divide every side: 12 is not a multiple of 32"),
        ("size = 28", "size = 30", "progressive.multiple must divide every side: 30 is not a multiple of 4"),
        ("last_epoch = 3", "last_epoch = 4", "progressive.last_epoch .* first_epoch, 0, .* 3, the last epoch, got 4"),
        ("last_epoch = 3", "", "progressive.last_epoch .* got 0"),
        ("start = 12", "begin = 12", "progressive.begin is not a known key"),
        ("width = 8", 'name = "vit-mini"\npatch = 8', "progressive.multiple .* of backbone.patch, 8, got 4"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, old, new, complaint):
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.replace(old, new))
    with pytest.raises(ValueError, match=complaint):
        recipe.load(str(path))


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(RECIPE)
    return recipe.load(str(path))


@pytest.mark.parametrize("resident", ["off", "on"])
def test_every_epoch_equals_a_loader_of_its_size(one, fashion, resident):
    one = one.model_copy(update={"resident": resident})
    method = experiment.build_method(one)
    used = experiment.train_images(one, fashion.labels)
    with experiment.train_loader(one, fashion, method, torch.device("cpu")) as growing:
        assert isinstance(growing, Growing) and isinstance(growing._loader, Resident) == (resident == "on")
        for epoch in (0, 2, 1, 3):
            views = experiment.views_of(one, epoch)
            assert [view.size for view in views] == [SIZES[epoch]] * 2
            with Loader(fashion, views, 32, indices=used, seed=one.seed) as plain:
                for ours, theirs in zip(growing.epoch(epoch), plain.epoch(epoch), strict=True):
                    assert all(torch.equal(a, b) for a, b in zip(ours.views, theirs.views, strict=True))
        assert growing.state_dict() == plain.state_dict() and len(growing) == len(plain)


def test_growing_views_cannot_be_combined_with_masks(one, fashion):
    method = experiment.build_method(one)
    method.masks = (Mask(view=0, rows=7, columns=7, kept=2),)
    with pytest.raises(
        ValueError, match="progressive cannot be used with simclr, which masks patches of views of one size"
    ):
        experiment.train_loader(one, fashion, method, torch.device("cpu"))


class Runs:
    def __init__(self, folder, betons):
        self.folder, self.betons = folder, betons
        (folder / "r.toml").write_text(RECIPE)

    def train(self, out, *words):
        folder, said = self.folder, io.StringIO()
        place = ["--out", str(folder / out), "--betons", str(self.betons)]
        with redirect_stdout(said):
            code = run(["train", str(folder / "r.toml"), *place, "--json", "--loss-hash", *words])
        return code, json.loads(said.getvalue() or "{}").get("loss_hash")

    def state(self, out):
        return checkpoint.load(self.folder / out / "checkpoints" / "r-seed0.pt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, betons):
    threads = torch.get_num_threads()
    runs = Runs(tmp_path_factory.mktemp("growing"), betons)
    with pytest.MonkeyPatch.context() as patched:  # the speed of this machine does not matter here
        patched.setattr(training.flops, "matrix_ceiling", lambda *args: [1e12])
        patched.setattr(training, "CEILING_ROUNDS", 1)
        runs.whole = runs.train("whole")
        yield runs
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_the_record_has_the_size_of_each_epoch(runs):
    assert runs.whole[0] == 0
    measured, ceilings = trained.measured(runs.folder / "whole" / "checkpoints" / "r-seed0.pt")
    assert measured.sizes == SIZES and len(measured.losses) == STEPS
    assert measured.seconds_per_epoch == pytest.approx(sum(measured.epoch_seconds) / 4)
    one = recipe.load(str(runs.folder / "r.toml"))
    full = one.model_copy(update={"progressive": Progressive()})
    trainer = training.Trainer(
        experiment.build_method(full),
        full.optim,
        epochs=4,
        normalize=experiment.normalize_for(full),
        device=torch.device("cpu"),
        precision="fp32",
    )
    flops = [
        training._step_flops(trainer, DeviceBatch((view, view), torch.zeros(32, dtype=torch.int64)))
        for side in SIZES
        for view in [torch.zeros(32, 3, side, side, dtype=torch.uint8)]
    ]
    assert measured.step_flops == sum(flops) // 4 and flops == sorted(flops)
    assert ceilings.model > 0 and 0 < measured.mfu < 1


@pytest.mark.parametrize("killed_at", [8, 9], ids=["within an epoch", "as the size changes"])
def test_an_interrupted_run_resumes_bit_for_bit(runs, monkeypatch, killed_at):
    @contextmanager
    def until(what, count):
        steps = iter(range(1, count + 1))

        def advance():
            if next(steps) == killed_at:
                raise KeyboardInterrupt

        yield advance

    out = f"cut{killed_at}"
    with monkeypatch.context() as patched:
        patched.setattr(training, "progress", until)
        assert runs.train(out)[0] == 130
    reached = runs.state(out)["history"]["losses"]
    assert len(reached) == killed_at - 1, "checkpoints are written after three steps of an epoch and after it"
    assert runs.train(out, "--resume") == runs.whole
    ours, theirs = (runs.state(name)["method"] for name in (out, "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
