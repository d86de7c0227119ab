"""The loader's rate beside its peers', each in a process of its own."""

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from bench import loader_rates
from bench.loader_rates import as_result, job_for, measure
from bench.peers.torchvision import transform
from loaders import presets
from loaders.presets import PRESETS


def test_ours_beside_torchvision_and_an_absent_peer(photographs):
    """Stock FFCV is absent here because it makes random crops only; that is said, and no rate is invented."""
    job = job_for(photographs.path, "eval", 96, 2, 40, len(photographs))
    assert (job.images, job.batch) == (40, 32)
    record = measure(job, ("torchvision", "ffcv"), 2, "x")
    assert record.images == 32 and record.views_per_image == 1
    assert {name: len(rates) for name, rates in record.images_per_s.items()} == {"twoview": 2, "torchvision": 2}
    assert record.notes == {"ffcv": "absent: ValueError: the ffcv peer makes random crops only"}
    result = as_result(record)
    assert result["views_per_s"] == pytest.approx(result["images_per_s"])
    assert result["images_per_s"] == pytest.approx(np.median(record.images_per_s["twoview"]))
    assert result["peers"]["torchvision"]["images_per_s"] > 0 and "absent" in result["peers"]["ffcv"]
    assert result["images_per_s"] > result["peers"]["torchvision"]["images_per_s"]


class Dying:
    """A contestant that makes one pass and then no more."""

    def __init__(self, process):
        self.process, self.passes = process, 0

    def __call__(self):
        self.passes += 1
        if self.passes > 1:
            self.process.process.kill()
        return type(self.process).seconds_of_a_pass(self.process)


def test_a_peer_that_dies_in_mid_measurement_is_left_out(fashion, monkeypatch):
    start = loader_rates.Process.__init__

    def dying(process, name, job):
        start(process, name, job)
        if name == "torchvision":
            process.seconds_of_a_pass = Dying(process)

    monkeypatch.setattr(loader_rates.Process, "__init__", dying)
    record = measure(job_for(fashion.path, "eval", 28, 1, 64, len(fashion)), ("torchvision",), 3, "x")
    assert len(record.images_per_s["twoview"]) == 3 and "torchvision" not in record.images_per_s
    assert record.notes["torchvision"] == "absent: its process ended with -9"


def test_an_unknown_peer_is_an_error(fashion):
    with pytest.raises(ValueError, match="unknown peer 'dali': known are torchvision, ffcv"):
        measure(job_for(fashion.path, "eval", 28, 1, 64, len(fashion)), ("dali",), 1, "x")


def test_no_peers_unless_asked(fashion):
    result = as_result(measure(job_for(fashion.path, "eval", 28, 1, 64, len(fashion)), (), 1, "x"))
    assert result["peers"] == {}


def test_a_file_that_ours_cannot_read_is_an_error(photographs, copy_of):
    path = copy_of(photographs)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="the loader cannot read"):
        measure(job_for(path, "crops", 32, 1, 32, 48), (), 1, "x")


def test_the_processes_end_with_the_measurement(fashion, monkeypatch):
    started = []
    start = loader_rates.Process

    def remembering(*args):
        started.append(start(*args))
        return started[-1]

    monkeypatch.setattr(loader_rates, "Process", remembering)
    measure(job_for(fashion.path, "eval", 28, 1, 64, len(fashion)), (), 1, "x")
    assert started and all(process.process.returncode is not None for process in started)


@pytest.mark.parametrize("name", PRESETS)
def test_the_torchvision_peer_does_the_same_ops(name):
    """The peer's pipeline has every op of the view, with its probability."""
    for view in presets.preset(name, 64):
        steps = {type(step).__name__: step for step in transform(view).transforms}
        applied = [s for s in transform(view).transforms if isinstance(s, transforms.RandomApply)]
        assert [apply.p for apply in applied] == [op.p for op in (view.jitter, view.blur) if op]
        assert steps["RandomHorizontalFlip"].p == view.flip and steps["RandomGrayscale"].p == view.gray
        assert ("RandomResizedCrop" in steps) == (view.scale is not None)
        image = transform(view)(Image.fromarray(np.zeros((80, 90, 3), np.uint8)))
        assert tuple(image.shape) == (3, 64, 64)
