"""The loader's rate compared with its peers' rates, each in its own process."""

import io
import subprocess
import sys

import numpy as np
import psutil
import pytest
from PIL import Image
from scipy import stats
from torchvision import transforms

from twoview.bench.dataloader.rates import as_result, job_for, measure, measure_conversion, text
from twoview.bench.dataloader.targets import REQUIREMENTS, TABLE, LoaderWork
from twoview.bench.peers import race
from twoview.bench.peers.decode import Decode
from twoview.bench.peers.torchvision import transform
from twoview.loaders import datasets, presets
from twoview.loaders.presets import PRESETS


def job(beton, views, size, threads, images, batch=32):
    """A job whose rounds are one pass each."""
    return job_for(beton.path, views, size, threads, len(beton), images, batch).model_copy(update={"seconds": 0})


@pytest.mark.alone
def test_rates_are_compared_and_an_unavailable_peer_is_noted(photographs):
    """Stock FFCV is unavailable here because it makes random crops only, which the record notes.

    A pass over more images than the file has starts again at the first one.
    """
    record = measure(job(photographs, "eval", 96, 2, 100), ("torchvision", "ffcv", "decode"), 2, "x")
    assert record.images == 96 and len(photographs) == 48 and record.views_per_image == 1
    counts = {name: len(rates) for name, rates in record.images_per_s.items()}
    assert counts == {"twoview": 2, "torchvision": 2, "decode": 2}
    assert record.notes == {
        "ffcv": "absent: ValueError: the ffcv peer makes views with random crops only, got a view without",
        "decode": "decodes each image once and makes no views",
    }
    result = as_result(record)
    assert result["views_per_s"] == pytest.approx(result["images_per_s"])
    assert result["images_per_s"] == pytest.approx(np.median(record.images_per_s["twoview"]))
    assert result["peers"]["torchvision"]["images_per_s"] > 0 and "absent" in result["peers"]["ffcv"]
    best = {name: max(rates) for name, rates in record.images_per_s.items()}
    assert best["torchvision"] < best["twoview"] < best["decode"]
    assert record.peak_mib["twoview"] > record.added_mib["twoview"] > record.batch_mib == 32 * 96 * 96 * 3 / 2**20
    assert "ffcv         absent: ValueError" in text(result) and "views/s" in text(result)


ENDLESS = """
import sys, time
from twoview.bench.peers.race import Process
from twoview.bench.peers.job import Job

with Process("twoview", Job.model_validate_json(sys.argv[1])) as process:
    process.answer()
    process.process.stdin.write("\\n")
    process.process.stdin.flush()
    print(process.process.pid, flush=True)
    time.sleep(3600)
"""


def test_a_working_contestant_ends_with_its_parent_process(fashion):
    """Even if the parent is killed and cannot end it. The round would take an hour."""
    work = job(fashion, "crops", 28, 1, 64).model_copy(update={"seconds": 3600})
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, work.model_dump_json()], stdout=subprocess.PIPE, text=True
    ) as parent:
        contestant = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    contestant.wait(60)


def test_bare_decoding_needs_jpegs(fashion):
    with pytest.raises(ValueError, match="must hold JPEGs to decode, got raw images only"):
        Decode(job(fashion, "crops", 28, 1, 64)).make()


@pytest.mark.long
def test_more_views_add_only_the_memory_of_their_batches(photographs):
    """Twelve views instead of one add at most five batches; FFCV would add every decoded image for each view."""
    one, twelve = (measure(job(photographs, v, 96, 2, 384, 48), (), 1, "x") for v in ("supervised", "crops-msn"))
    batches = 5 * (twelve.batch_mib - one.batch_mib)
    assert twelve.added_mib["twoview"] - one.added_mib["twoview"] < batches + 8
    decoded = 48 * int((photographs.heights * photographs.widths).mean()) * 3 / 2**20
    assert batches + 8 < 11 * decoded / 4, "the bound must tell the two apart"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_first_batch_with_no_compiled_kernels_takes_longer(photographs):
    record = measure(job(photographs, "supervised", 96, 1, 32), (), 1, "x", empty_cache=True)
    assert record.first_batch_empty_cache_s > 5 * record.first_batch_s["twoview"]


@pytest.mark.alone
def test_conversion_is_compared_with_stock_ffcv():
    samples = datasets.dataset("photographs").find(None, "train")
    record = measure_conversion(samples, "photographs", 24, 2, ("ffcv",), 1, "x")
    assert set(record.images_per_s) == {"twoview", "ffcv"} and record.images == 24
    assert record.images_per_s["twoview"][0] > record.images_per_s["ffcv"][0] > 0
    assert record.notes == {"ffcv": "decodes and compresses again"}
    with pytest.raises(ValueError, match="unknown peer 'torchvision': choose one of ffcv"):
        measure_conversion(samples, "photographs", 1, 1, ("torchvision",), 1, "x")


def test_the_photographs_are_jpegs_of_quality_90_up_to_500_pixels():
    """The quantization tables show the quality."""
    samples = datasets.dataset("photographs").find(None, "train")
    ninety = io.BytesIO()
    Image.new("RGB", (8, 8)).save(ninety, "JPEG", quality=90)
    for index in range(0, len(samples), 40):
        with Image.open(io.BytesIO(samples.image(index))) as image, Image.open(ninety) as reference:
            assert image.quantization == reference.quantization and 300 <= max(image.size) <= 500


def test_every_requirement_is_measured():
    """Every requirement names a record of a suite and, for a ratio, one of its peers."""
    from twoview.bench.suites.runner import SUITES

    works = {work.name: work for suite in SUITES.values() for work in suite.loaders}
    for requirement in REQUIREMENTS:
        assert not requirement.against or requirement.against in works[requirement.record].peers
    assert all(work.rounds >= 5 for work in TABLE)
    for work in TABLE:
        if isinstance(work, LoaderWork):
            assert work.images % work.batch == 0 and presets.preset(work.views, work.size)


class Dying:
    """A contestant that makes one pass and then no more."""

    def __init__(self, process):
        self.process, self.passes = process, 0

    def __call__(self):
        self.passes += 1
        if self.passes > 1:
            self.process.process.kill()
        return type(self.process).work_a_round(self.process)


def test_a_peer_that_dies_during_the_measurement_is_dropped(fashion, monkeypatch):
    start = race.Process.__init__

    def dying(process, name, job, **rest):
        start(process, name, job, **rest)
        if name == "torchvision":
            process.work_a_round = Dying(process)

    monkeypatch.setattr(race.Process, "__init__", dying)
    record = measure(job(fashion, "eval", 28, 1, 64), ("torchvision",), 3, "x")
    assert len(record.images_per_s["twoview"]) == 3 and "torchvision" not in record.images_per_s
    assert record.notes["torchvision"] == "absent: its process ended with exit code -9"


def test_rounds_end_once_the_ratios_are_known(fashion):
    """The interval equals scipy's, and it alone decides how many rounds are measured."""
    theirs = [100.0, 104.0, 98.0, 101.0]
    ours = [250.0, 251.0, 249.0, 252.0]
    for count in (2, 3, 4):
        logs = np.log(np.divide(ours, theirs)[:count])
        interval = stats.t.interval(0.95, count - 1, logs.mean(), stats.sem(logs))
        share = np.expm1(interval[1] - logs.mean())
        rates = {"twoview": ours[:count], "ffcv": theirs[:count]}
        assert race.settled(rates, 1.01 * share) == (count > 2) and not race.settled(rates, 0.99 * share)
    record = measure(job(fashion, "eval", 28, 1, 64), (), 4, "x", tolerance=0.1)
    assert len(record.images_per_s["twoview"]) == 3, "without peers there is no ratio to settle"


def test_kernels_are_compiled_before_the_race(fashion, monkeypatch):
    """By one batch of ours, in a process that ends before the first contestant starts."""
    started, start = [], race.Process

    def remembering(name, job, **more):
        started.append((name, job.images, [process.process.poll() for _, _, _, process in started]))
        started[-1] = (*started[-1], start(name, job, **more))
        return started[-1][-1]

    monkeypatch.setattr(race, "Process", remembering)
    measure(job(fashion, "eval", 28, 1, 96), (), 1, "x")
    (first, batch, _, _), (second, images, ended, _) = started
    assert (first, batch, second, images) == ("twoview", 32, "twoview", 96) and ended[0] is not None


def test_an_unknown_peer_is_an_error(fashion):
    with pytest.raises(ValueError, match="unknown peer 'webdataset': choose one of torchvision, lightly, ffcv"):
        measure(job(fashion, "eval", 28, 1, 64), ("webdataset",), 1, "x")


def test_a_file_that_the_loader_cannot_read_is_an_error(photographs, copy_of):
    path = copy_of(photographs)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="the loader cannot read"):
        measure(job_for(path, "crops", 32, 1, len(photographs)), (), 1, "x")


def test_without_peers_only_ours_is_measured_and_its_processes_end(fashion, monkeypatch):
    started = []
    start = race.Process

    def remembering(*args, **more):
        started.append(start(*args, **more))
        return started[-1]

    monkeypatch.setattr(race, "Process", remembering)
    assert as_result(measure(job(fashion, "eval", 28, 1, 64), (), 1, "x"))["peers"] == {}
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
        assert tuple(image.shape) == (3, view.size, view.size)
