"""The peers do the same ops as ours, and a missing peer is named."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightly.transforms.gaussian_blur import GaussianBlur
from PIL import Image

from twoview.bench.config.experiment import Place
from twoview.bench.dataloader import targets
from twoview.bench.peers import torchvision, worker
from twoview.bench.peers.job import ConvertJob, Job
from twoview.bench.peers.lightly import transform
from twoview.bench.peers.race import Process, Race, Unavailable
from twoview.bench.suites import peers as beside_peers
from twoview.loaders import presets
from twoview.loaders.views import OPS, Erase, View


@pytest.mark.parametrize("name", ["simclr-imagenet", "simclr-cifar", "crops"])
def test_the_lightly_peer_does_the_same_ops(name):
    for view in presets.preset(name, 32):
        pipeline = transform(view).transform
        steps = {type(step).__name__: step for step in pipeline.transforms}
        assert steps["RandomResizedCrop"].scale == view.scale and steps["RandomHorizontalFlip"].p == view.flip
        assert steps["RandomGrayscale"].p == view.gray
        assert steps["RandomApply"].p == (view.jitter.p if view.jitter else 0), "the probability of the jitter"
        (blur,) = (step for step in pipeline.transforms if isinstance(step, GaussianBlur))
        assert blur.prob == (view.blur.p if view.blur else 0)
        assert pipeline(Image.fromarray(np.zeros((40, 50, 3), np.uint8))).shape == (3, 32, 32)


def test_views_that_lightly_cannot_make_are_refused():
    with pytest.raises(ValueError, match="makes SimCLR's views only"):
        transform(presets.preset("eval", 32)[0])


def test_an_op_that_lightly_lacks_is_refused():
    with pytest.raises(ValueError, match="makes SimCLR's views only"):
        transform(View(32, erase=Erase()))


def test_the_torchvision_peer_pads_before_the_flip_and_erases_bytes_at_the_end():
    pipeline = torchvision.transform(View(24, scale=None, padding=3, erase=Erase(level=9, p=1.0)))
    assert [type(step).__name__ for step in pipeline.transforms] == [
        "Resize", "RandomCrop", "RandomHorizontalFlip", "RandomGrayscale", "PILToTensor", "RandomErasing",
    ]  # fmt: skip
    assert pipeline.transforms[0].size == 24 and pipeline.transforms[1].padding == 3
    made = pipeline(Image.fromarray(np.full((40, 50, 3), 200, np.uint8)))
    assert made.dtype == torch.uint8 and made.shape == (3, 24, 24) and set(made.unique().tolist()) <= {0, 9, 200}
    assert 9 in made


@pytest.mark.parametrize("name", ["simclr-imagenet", "simclr-cifar", "crops"])
def test_the_kornia_peer_does_the_same_ops(name):
    kornia = pytest.importorskip("twoview.bench.peers.kornia", exc_type=ImportError)
    for view in presets.preset(name, 32):
        steps = {type(step).__name__: step for step in kornia.batch_ops(view)}
        wanted = {"RandomHorizontalFlip": view.flip, "RandomGrayscale": view.gray}
        wanted |= {"ColorJitter": view.jitter.p if view.jitter else 0}
        wanted |= {"RandomGaussianBlur": view.blur.p if view.blur else 0}
        assert {name: step.p for name, step in steps.items()} == {name: p for name, p in wanted.items() if p}
        assert kornia.batch_ops(view)(torch.rand(2, 3, 32, 32)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("name", ["simclr-imagenet", "crops"])
def test_the_dali_peer_makes_every_images_views_once_per_pass(name, photographs):
    dali = pytest.importorskip("twoview.bench.peers.dali", exc_type=ImportError)
    job = Job(beton=photographs.path, samples=24, views=name, size=32, images=24, batch=8, threads=1)
    contestant = dali.DALI(job)
    contestant.make()
    for _ in range(2):
        batches = [[np.array(output) for output in batch] for batch in contestant.one_pass()]
        assert [[part.shape for part in batch] for batch in batches] == [[(8, 32, 32, 3), (8, 32, 32, 3), (8, 1)]] * 3
        labels = np.concatenate([batch[2].ravel() for batch in batches])
        assert sorted(labels) == sorted(photographs.labels[:24])


def test_a_peer_that_is_not_installed_is_named(monkeypatch, capsys):
    """If its import fails, its process says so, and the race notes that instead of a rate."""
    monkeypatch.setitem(sys.modules, "lightly.loss", None)
    monkeypatch.delitem(sys.modules, "twoview.bench.peers.lightly", raising=False)
    job = Job(beton=Path("none"), samples=1, views="crops", size=8, images=1, batch=1, threads=1)
    with pytest.raises(SystemExit, match=r"the package lightly.loss is not installed"):
        worker.make("lightly", job)
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    monkeypatch.delitem(sys.modules, "twoview.bench.peers.dali", raising=False)
    with pytest.raises(SystemExit, match=r"the package nvidia(\.dali)? is not installed"):
        worker.make("dali", job)
    monkeypatch.setitem(sys.modules, "ffcv.fields", None)
    monkeypatch.delitem(sys.modules, "twoview.bench.peers.ffcv", raising=False)
    for one in (job, ConvertJob(images=1, threads=1, folder=Path("none"))):
        with pytest.raises(SystemExit, match=r"the package ffcv.fields is not installed"):
            worker.make("ffcv", one)
    race = Race(images_per_s={"twoview": [1.0], "lightly": []})
    race.leave_out("lightly", Unavailable("the package lightly is not installed"))
    assert race.images_per_s == {"twoview": [1.0]}
    assert race.notes == {"lightly": "absent: the package lightly is not installed"}


@pytest.mark.parametrize("images", [32, 128])
def test_ffcvs_passes_have_a_minimum_length(images):
    """FFCV allocates new buffers for each pass; a longer pass repeats the same samples."""
    from twoview.bench.peers.ffcv import FFCV

    job = Job(beton=Path("none"), samples=8, views="crops", size=8, images=images, batch=4, threads=1)
    longer = FFCV(job).job
    assert longer.images == max(64, images) and set(longer.indices()) == set(range(8))


def test_a_peer_that_takes_too_long_is_dropped():
    job = Job(beton=Path("none"), samples=1, views="crops", size=8, images=1, batch=1, threads=1)
    with (
        Process("torchvision", job, patience=0.01) as process,
        pytest.raises(Unavailable, match=r"no answer in 0\.01 s, the most it may take"),
    ):
        process.answer()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_all_peers_are_compared_with_ours(betons, tmp_path):
    """The loaders on a small workload, one of them unavailable, and the training step."""
    work = replace(targets.FASHION, images=128, batch=64, views="crops-msn", peers=("torchvision", "lightly"))
    scale = replace(beside_peers.ON_CPU, step_batch=4)
    loading, step = beside_peers.measure(Place(betons, tmp_path, None), 2, (work,), scale)
    assert loading.name == f"peers-{work.name}" and set(loading.images_per_s) == {"twoview", "torchvision"}
    assert loading.notes["lightly"].startswith("absent: ValueError: the lightly peer makes SimCLR's views only")
    assert "dali" not in loading.images_per_s
    rates = {figure.name: figure.samples for figure in step.figures}
    assert len(rates["step rate, twoview"]) == len(rates["step rate, lightly"]) == 2
    said = beside_peers.text([loading, step])
    assert "lightly      absent:" in said and "speedup, lightly" in said


def test_torchvisions_ops_run_in_the_order_of_the_views_fields(monkeypatch):
    behind = {"erase": OPS["erase"], "gray": OPS["gray"]}  # an op on tensors before one on PIL images
    monkeypatch.setattr(torchvision, "OPS", behind)
    view = View(16, gray=0.5, erase=Erase(p=1.0))
    names = [type(step).__name__ for step in torchvision.transform(view).transforms[2:]]
    assert names == ["PILToTensor", "RandomErasing", "ToPILImage", "RandomGrayscale", "PILToTensor"]
