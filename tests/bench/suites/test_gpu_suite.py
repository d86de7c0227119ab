"""The GPU suite at tiny sizes on the CPU: every step runs; wrong results, failures and interruptions are detected.

What only a GPU has is not tested here: events, copies on a side stream, compiled steps, memory, energy and kernels.
"""

import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from tests.support.gpu_steps import by_name, fails, last
from twoview import cli
from twoview.bench import evidence
from twoview.bench.config import experiment, recipe
from twoview.bench.config.experiment import Place, build_method
from twoview.bench.config.progressive import Progressive
from twoview.bench.costs import projection as budget
from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.peers.job import StepJob
from twoview.bench.suites.gpu import cifar, correctness, rates, steps, suite, with_lightly
from twoview.bench.suites.gpu.scale import CIFAR, HEADLINE, TINY, Context, Scale, Skipped
from twoview.bench.suites.gpu.suite import Step
from twoview.bench.suites.gpu.targets import TARGETS, target
from twoview.bench.training.steps import resident_batch
from twoview.commands import suite as suite_command
from twoview.commands import suite_gpu
from twoview.loaders.resident import Resident
from twoview.methods.probes.knn import knn_top1
from twoview.methods.registry import METHODS

# Fashion-MNIST in place of CIFAR-10.
SMALL_DATA = {"dataset": "fashion-mnist", "train_images": 64, "epochs": 5, "optim": {"warmup_epochs": 1}}
SMALL_DATA |= {"cuda_graph": False, "progressive": {"start": 0}}
SMALL_DATA |= {"probe": {"train_images": 100, "test_images": 50}, "backbone": {"name": "resnet-small", "width": 8}}
SMALL = replace(TINY, settings=TINY.settings | {CIFAR: SMALL_DATA})


@pytest.fixture
def context(tmp_path):
    place = Place(tmp_path / "betons", tmp_path / "checkpoints", None)
    return Context(TINY, place, tmp_path / "evidence", time.monotonic() + 3600)


@pytest.fixture
def small_data(context, betons):
    """The context with Fashion-MNIST in place of CIFAR-10."""
    return replace(context, scale=SMALL, place=replace(context.place, betons=betons))


def test_every_loss_is_checked_against_float64_on_the_cpu(context):
    record = last(correctness.losses(context))
    checked = {figure.work for figure in record.figures}
    assert checked >= {"nt_xent", "laplacian", "concat", "vicreg", "barlow", "byol", "supcon", "moco", "moco_sum"}
    assert checked >= {"msn", "pmsn", "mae", "data2vec", "nt_xent, in tiles"}
    assert not any(figure.off for figure in record.figures)
    assert any(figure.samples[0] > 0 for figure in record.figures), "the device's float32 is not float64"


@pytest.mark.parametrize("wrong", ["loss_difference", "gradient_difference"])
def test_a_wrong_loss_or_gradient_is_detected(context, monkeypatch, wrong):
    """One of them is wrong by one part in a thousand."""
    right = correctness._value_and_gradient

    def off(loss, scale, device, dtype):
        value, gradient = right(loss, scale, device, dtype)
        factor = 1.001 if dtype == torch.float32 else 1
        return (value * factor, gradient) if wrong == "loss_difference" else (value, gradient * factor)

    monkeypatch.setattr(correctness, "_value_and_gradient", off)
    figures = last(correctness.losses(context)).figures
    assert [figure.quantity == wrong for figure in figures] == [figure.off for figure in figures]


@pytest.mark.parametrize("preset", correctness.PRESETS)
def test_views_made_on_the_device_agree_and_a_wrong_one_is_detected(context, monkeypatch, preset):
    record = last(correctness.views(context, preset))
    assert {figure.work for figure in record.figures} == {preset}
    assert all(figure.samples == [0] for figure in record.figures)

    batch_of = Resident._batch

    def two_levels_off(self, positions, epoch):
        batch = batch_of(self, positions, epoch)
        return batch._replace(views=tuple(view ^ 2 for view in batch.views))

    monkeypatch.setattr(Resident, "_batch", two_levels_off)
    [levels] = [figure for figure in last(correctness.views(context, preset)).figures if figure.tolerance is not None]
    assert levels.off and levels.samples == [2]


def test_a_check_that_gives_nan_fails():
    assert Figure(work="w", quantity="loss_difference", samples=[float("nan")], tolerance=1).off


def test_the_loader_the_model_and_both_are_timed(context):
    *parts, record = rates.measure(context, rates.HALF)
    found = by_name(record)
    assert record.name == "gpu-rates-half" and record.recipe["batch"] == 8
    assert record.recipe["dataset"] == "photographs"
    for name in ("loader rate", "model rate", "training rate", "efficiency", "data wait"):
        assert len(found[name].samples) == 2
    for real, loader, model, efficiency in zip(
        *(found[name].samples for name in ("training rate", "loader rate", "model rate", "efficiency")), strict=True
    ):
        assert efficiency == pytest.approx(100 * real / min(loader, model))
    assert all(0 <= share < 100 for share in found["data wait"].samples)
    assert found["mfu"].median > 0 and found["step time model alone"].median > 0
    assert [len(by_name(part)["training rate"].samples) for part in parts[1:]] == [1, 2], "if it is interrupted"
    assert list(by_name(parts[0])) == ["warmup time, 1"]


def test_rates_are_kept_if_memory_runs_out_while_counting_flops(context, monkeypatch):
    def counted(loss):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 80 GiB")

    monkeypatch.setattr(rates, "counted", counted)
    one = TINY.recipe(HEADLINE, batch=4)
    trainer = TINY.trainer(one)
    [figure] = rates.utilization(TINY, trainer, resident_batch(one, trainer), "work", 1.0)
    assert not figure.samples and figure.note == "not counted: CUDA out of memory. Tried to allocate 80 GiB"


def test_kernels_are_chosen_as_in_training(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    TINY.trainer(TINY.recipe(HEADLINE))
    assert torch.backends.cudnn.benchmark


def test_jpegs_come_from_imagenet_if_it_exists(tmp_path):
    for number in range(1000):
        folder = tmp_path / "root" / "imagenet" / "train" / f"n{number:08}"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (number % 256, number // 256, 0)).save(folder / "one.JPEG")
    file, dataset = rates.jpegs(tmp_path, tmp_path / "root", 50)
    assert dataset == "imagenet" and list(file.labels) == list(range(0, 1000, 20))
    assert rates.jpegs(tmp_path, tmp_path / "root", 50)[0].path == file.path, "made once"
    assert rates.jpegs(tmp_path, None, 50)[1] == "photographs"


def test_epochs_are_timed_without_data(context):
    *parts, record = cifar.clock_epochs(context)
    found = by_name(record)
    assert [len(by_name(part)["epoch time"].samples) for part in parts] == [0, 1, 2], "if it is interrupted"
    assert len(found["epoch time"].samples) == 2 and len(found["first epoch time"].samples) == 1
    assert all(ms > 0 for ms in found["augmentation time"].samples)
    assert found["epoch time"].work.endswith("batch 16, 500 noise images")
    assert not list(context.place.checkpoints.glob("*")), "a checkpoint would be part of the seconds"


def test_the_time_to_an_accuracy_is_measured(small_data):
    *parts, record = cifar.train(small_data)
    found = by_name(record)
    knn, seconds = found["knn accuracy"].samples, found["elapsed time"].samples
    assert found["judged epochs"].samples == [2, 3, 5] and len(knn) == 3
    assert len(seconds) == 5 and sorted(seconds) == seconds
    assert found["time to accuracy, 5"].samples == [seconds[1] / 60]
    assert found["time to accuracy, 100"].samples == [] and "not reached" in found["time to accuracy, 100"].note
    assert found["best knn accuracy"].samples == [max(knn)]
    assert record.recipe["epochs"] == 5
    assert [len(by_name(part)["knn accuracy"].samples) for part in parts] == [1, 2]
    assert not list(small_data.place.checkpoints.glob("*"))


def test_a_run_shortened_after_two_epochs_equals_a_run_of_that_length(small_data, monkeypatch):
    """The recipe has six epochs, of which three fit; the reference is the trainer on a recipe of three epochs."""
    torch.set_num_threads(1)
    settings = TINY.settings | {CIFAR: SMALL_DATA | {"epochs": 6, "optim": {"warmup_epochs": 2}}}
    context = replace(small_data, scale=replace(TINY, settings=settings, judged_at=(1.0,)))
    ends = []
    monkeypatch.setattr(cifar, "fitted", lambda one, timed, left: cifar._laid_out(one, 3))
    monkeypatch.setattr(cifar, "Judge", lambda one, train, test, trainer: ends.append(trainer) or Nothing())
    monkeypatch.setattr(cifar, "_record", lambda *args: None)
    for _ in cifar.train(context):
        pass

    one = context.scale.recipe(CIFAR, epochs=3, resident="on")
    trainer = context.scale.trainer(one)
    file = cifar._file(context, one, "train")
    trainer.fit(experiment.train_loader(one, file, trainer.method, trainer.device), None, {})
    assert ends[0].history.losses == trainer.history.losses and len(trainer.history.losses) == 12


class Nothing:
    seconds = 0.0

    def __call__(self):
        pass


def test_a_run_that_runs_out_of_time_keeps_its_curve(small_data, monkeypatch):
    left = iter([60.0] * 15)  # read after each of an epoch's four steps, and when the epochs are planned
    monkeypatch.setattr(cifar, "_left", lambda context: next(left, 0.0))
    found = by_name(last(cifar.train(small_data)))
    assert found["judged epochs"].samples == [2, 3], "an unfinished epoch has no time, and is not judged"
    assert found["best knn accuracy"].note.endswith("; 3 of 5 epochs are trained")

    monkeypatch.setattr(cifar, "_left", lambda context: 0.0)
    with pytest.raises(Skipped, match="its time is too short for 2 epochs"):
        next(cifar.train(small_data))


def test_a_record_says_how_many_of_the_recipes_epochs_fit(small_data, monkeypatch):
    monkeypatch.setattr(cifar, "fitted", lambda one, timed, left: cifar._laid_out(one, 3))
    record = last(cifar.train(small_data))
    found = by_name(record)
    assert found["best knn accuracy"].note.endswith("; the step's time allows 3 of the recipe's 5 epochs")
    assert found["time to accuracy, 100"].note.endswith("; the step's time allows 3 of the recipe's 5 epochs")
    assert record.recipe["epochs"] == 3


def test_both_knn_accuracies_match_their_references(small_data):
    """scikit-learn's classifier as github.com/dkobak/simclr-cifar10 calls it, and the probe's, on the same features."""
    one = SMALL.recipe(CIFAR)
    trainer = SMALL.trainer(one)
    train, test = (cifar._file(small_data, one, split) for split in ("train", "test"))
    judge = cifar.Judge(one, train, test, trainer)
    judge()
    trainer.method.eval()
    (bank, label), (query, truth) = ((judge._features(of.images), of.labels) for of in (judge.bank, judge.queries))
    assert (len(bank), len(query)) == (100, 50)
    sklearn_s = KNeighborsClassifier(10, metric="cosine").fit(bank.numpy(), label.numpy())
    assert judge.found[0].published == pytest.approx(100 * sklearn_s.score(query.numpy(), truth.numpy()))
    assert judge.found[0].weighted == knn_top1(bank, label, query, truth, k=one.probe.k)


def growing(**values):
    """CIFAR-10's recipe, of 300 epochs; its views grow from 16 to 32 pixels by 8."""
    grow = {"start": 16, "first_epoch": 100, "last_epoch": 200, "multiple": 8} | values
    return TINY.recipe(CIFAR).model_copy(update={"size": 32, "epochs": 300, "progressive": Progressive(**grow)})


def test_as_many_epochs_are_planned_as_fit_into_the_remaining_time():
    plain = growing(start=0)
    assert cifar.fitted(plain, [40.0, 2.0], 210).epochs == 2 + 100, "each takes 2.1 s, including the reserve"
    assert cifar.fitted(plain, [40.0, 2.0], 1e6).epochs == 300
    assert cifar.fitted(plain, [40.0, 2.0], 1.0).epochs == 3
    slow = plain.model_copy(update={"optim": plain.optim.model_copy(update={"warmup_epochs": 10.0})})
    warmups = [cifar.fitted(slow, [40.0, 2.0], left).optim.warmup_epochs for left in (1e6, 210, 48 * 2.1, 1)]
    assert warmups == [10, 10, 10, 2], "a fifth of the epochs at most, and no fewer than were timed"
    assert cifar.fitted(slow, [40.0, 2.0], 18 * 2.1 + 1).optim.warmup_epochs == 4


def test_growing_views_keep_their_shares_of_fewer_epochs():
    """A third of the epochs each at 16, 24 and 32 pixels, which take 1, 2.25 and 4 times as long."""
    fit = cifar.fitted(growing(), [31.0, 1.0], 500)
    grow = fit.progressive
    assert grow.first_epoch == pytest.approx(fit.epochs / 3, abs=1)
    assert grow.last_epoch == pytest.approx(2 * fit.epochs / 3, abs=1)
    sides = [grow.side(32, epoch) for epoch in range(fit.epochs)]
    assert set(sides) == {16, 24, 32}
    # Two more sizes compile, for 30 s each.
    assert 400 < 1.05 * sum((side / 16) ** 2 for side in sides[2:]) + 60 <= 500
    Progressive.check(grow, 32, fit.epochs)


def test_the_last_epoch_depends_on_the_pace_and_the_growth_does_not():
    one = growing(start=24)  # halfway, 28 pixels are rounded to 32, the size from epoch 150 on
    timed = [40.0] + [1.0] * 199
    longer = cifar.refitted(one, 400, timed, 1.05 * 150)
    assert longer.epochs == 350 and longer.progressive == one.progressive
    assert cifar.refitted(one, 320, timed, 1e6).epochs == 320
    slower = cifar.refitted(one, 400, timed + [2.0] * 8, 2.1 * 50)
    assert slower.epochs == 208 + 50
    assert cifar.refitted(one, 400, timed, -1.0).epochs == 201
    small = cifar.refitted(one, 400, timed[:100], 40 + 1.05 * (50 + 100 * (32 / 24) ** 2))
    assert small.epochs == 250, "50 epochs more of 24 pixels, and a size to compile"


def test_a_recipe_with_growing_views_is_trained(small_data):
    data = SMALL_DATA | {"size": 32, "epochs": 8}
    data["progressive"] = {"start": 16, "first_epoch": 3, "last_epoch": 6, "multiple": 8}
    record = last(cifar.train(replace(small_data, scale=replace(TINY, settings=TINY.settings | {CIFAR: data}))))
    assert len(by_name(record)["elapsed time"].samples) == 8


def test_late_epochs_are_judged_including_the_last_one():
    assert [cifar.judged_epoch(100, share) for share in (0.3, 0.5, 0.95, 1.0)] == [30, 50, 95, 100]
    assert [cifar.judged_epoch(3, share) for share in (0.3, 0.5, 0.95, 1.0)] == [3] * 4


def test_missing_cifar_10_is_skipped_by_name_and_not_downloaded(context):
    with pytest.raises(Skipped, match="cifar10 needs a data root"):
        next(cifar.train(context))


@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_every_method_is_timed(context, method):
    record = last(steps.measure_method(context, method))
    found = by_name(record)
    assert record.recipe["method"]["name"] == method and record.recipe["epochs"] == 100
    assert len(found["step time"].samples) == 8 and found["peak host memory"].median > 0
    views = len(build_method(recipe.parse(record.recipe, method)).views)
    assert found["step rate"].median == pytest.approx(1000 * 4 * views / found["step time"].median)


def test_every_stated_budget_is_projected_from_a_measured_step():
    same_cost = steps.budgets()
    stated = {path.stem for path in recipe.all_files() if recipe.load(path.stem).budget.gpus}
    assert sorted(name for names in same_cost.values() for name in names) == sorted(stated)
    assert next(iter(same_cost)) == HEADLINE
    for first, names in same_cost.items():
        ours = recipe.load(first)
        for other in map(recipe.load, names):
            assert (other.method, other.backbone, other.batch) == (ours.method, ours.backbone, ours.batch)


def test_a_budgets_step_is_measured_and_not_projected_from_too_few_steps(context):
    record = last(steps.measure_budget(context, (HEADLINE,)))
    found = by_name(record)
    assert len(found["step time"].samples) == 8 and found["step flops"].median > 0
    assert found["mfu"].median > 0
    projected = found["projected gpu hours"]
    assert projected.samples == [] and projected.note.startswith("no projection: 0 of 8 measured steps are steady, but")
    assert "8 x NVIDIA V100, 60 hours, 13 GiB each (found: about 2.5 days" in projected.note


def test_a_projection_names_its_steps_and_the_sources_budget():
    """By hand: 1,281,167 images in batches of 512 make 2,502 full steps per epoch, 250,200 in 100 epochs."""
    one = recipe.load(HEADLINE)
    figures = [Figure(work="w", quantity="step_time", samples=[400.0, 500.0, 600.0] * 20)]
    record = DeviceFigures(name="r", device="cpu", figures=figures, recipe=one.model_dump(mode="json"))
    alone = steps._projected(one, budget.measured(record))
    assert alone.samples == [pytest.approx(250_200 * 0.5 / 3600)]
    assert "250,200 steps; the model alone, 0.5 s a step" in alone.note and "from r; 95 % interval" in alone.note
    assert "8 x NVIDIA V100, 60 hours, 13 GiB each (found: about 2.5 days" in alone.note


@pytest.mark.long
def test_a_projection_uses_measured_training_instead_of_a_new_step(context, monkeypatch):
    """The model alone takes 0.4 s for 1,024 views; training reaches four fifths of that rate."""
    monkeypatch.delattr(steps, "_step")
    context = replace(context, scale=Scale(device="cpu"))
    samples = {"step_time_model_alone": [400.0] * 30, "model_rate": [2560.0], "training_rate": [2048.0]}
    figures = [Figure(work="w", quantity=quantity, samples=values) for quantity, values in samples.items()]
    values = recipe.load(HEADLINE).model_dump(mode="json") | {"dataset": "photographs"}
    record = DeviceFigures(name="gpu-rates", device="cpu", figures=figures, recipe=values)
    evidence.write(record, context.folder)
    projected = by_name(last(steps.measure_budget(context, (HEADLINE,))))["projected gpu hours"]
    assert projected.samples == [pytest.approx(250_200 * 0.5 / 3600)]
    assert "training on JPEGs, 0.5 s a step, the median of 30 after warm-up, from gpu-rates" in projected.note


def test_a_budget_that_states_no_hours_says_so():
    assert steps.spent(recipe.load("tan2024-cifar10-simclr-400").budget) == (
        "1 x NVIDIA A100 (found: one A100; hours and memory not found)"
    )


def test_the_step_is_compared_with_lightlys(context):
    record = last(with_lightly.measure(context))
    found = by_name(record)
    ours, theirs, ratio = (
        found[name].samples for name in ("step rate, twoview", "step rate, lightly", "speedup, lightly")
    )
    assert len(ours) == len(theirs) == 2
    assert ratio == [our / their for our, their in zip(ours, theirs, strict=True)]


def test_lightlys_step_has_the_same_network_and_learns():
    from twoview.bench.peers.lightly import Step as Theirs
    from twoview.bench.peers.twoview import Step as Ours

    values = recipe.load(HEADLINE).model_dump(mode="json")
    values |= {"batch": 4, "size": 32, "precision": "fp32", "backbone": values["backbone"] | {"name": "resnet18"}}
    values["method"]["norm"] = "all"
    job = StepJob(images=8, threads=1, recipe=values, device="cpu")
    theirs, ours = Theirs(job), Ours(job)
    theirs.make(), ours.make()
    shapes = [sorted(p.shape for p in model.parameters()) for model in (theirs.model, ours.trainer.method)]
    assert shapes[0] == shapes[1]
    first, second = (next(iter(theirs.one_pass())) for _ in range(2))
    assert second < first
    assert torch.tensor(next(iter(ours.one_pass()))).isfinite()


# Functions that the suite runs in another process must be importable there by name.
def fine(context):
    yield DeviceFigures(name="fine", device="cpu", figures=[Figure(work="w", quantity="epoch_time", samples=[1.0])])


def off(context):
    figure = Figure(work="nt_xent", quantity="loss_difference", samples=[0.5], tolerance=0.1)
    yield DeviceFigures(name="off", device="cpu", figures=[figure])


def lingers(context):
    threading.Thread(target=time.sleep, args=(3600,)).start()
    yield from fine(context)


def crashes_after_its_answer(context):
    """As a library may when its process ends."""
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
    yield from fine(context)


def run(context, monkeypatch, todo, minutes=60.0, **options):
    monkeypatch.setattr(suite, "all_steps", lambda: todo)
    return suite.run(context.folder, context.place, minutes, TINY, **options)


def whole(context):
    return sorted(path.stem for path in context.folder.glob("*.json"))


def stopped(context):
    """Stopped step -> the reason, and its number of figures."""
    records = map(evidence.read, (context.folder / "stopped").glob("*.json"))
    return {record.name: (record.stopped, len(record.figures)) for record in records}


def test_a_failing_step_ends_alone_and_keeps_its_figures(context, monkeypatch, capsys):
    todo = [
        *(Step(how, 0, partial(fails, how=how), share=1) for how in ("skips", "memory", "dies", "lost")),
        Step("off", 0, off, share=1),
        Step("long", 120, fine),
        Step("fine", 0, fine, share=1),
    ]
    assert run(context, monkeypatch, todo) == ["memory", "dies", "lost", "off"]
    said = capsys.readouterr().err
    assert re.search(r"^\[1/7\] skips: skipped after \d+ s: there is no data$", said, re.M)
    assert re.search(r"^\[4/7\] lost: stopped after \d+ s: RuntimeError: the device is lost$", said, re.M)
    assert "beyond tolerance: nt_xent: loss difference 0.5 x" in said
    assert re.search(r"\[6/7\] long: skipped: it takes about 120 min, and \d+\.\d min are left", said)
    assert whole(context) == ["fine", "off"]
    assert stopped(context) == {
        "memory": ("OutOfMemoryError: CUDA out of memory. Tried to allocate 80 GiB", 0),
        "dies": ("its process ended with exit code 9", 1),
        "lost": ("RuntimeError: the device is lost", 1),
    }

    before = evidence.path_of(context.folder, "fine").read_bytes()
    mended = Step("lost", 0, partial(renamed, name="lost"), share=1)
    assert run(context, monkeypatch, [mended, todo[-1]]) == []
    assert "fine: already finished" in capsys.readouterr().err
    assert whole(context) == ["fine", "lost", "off"] and "lost" not in stopped(context), "it is measured again"
    assert evidence.path_of(context.folder, "fine").read_bytes() == before


def renamed(context, name):
    for record in fine(context):
        yield record.model_copy(update={"name": name})


@pytest.mark.parametrize("end", [lingers, crashes_after_its_answer])
def test_a_record_is_complete_however_its_process_ends(context, monkeypatch, end):
    monkeypatch.setattr(suite, "LETTING_GO", 0.5)
    assert run(context, monkeypatch, [Step("fine", 0, end, share=1)]) == []
    assert whole(context) == ["fine"] and not stopped(context)


def test_a_step_that_overruns_its_time_does_not_affect_the_others(context, monkeypatch):
    """It is expected to take 0.04 minutes, so it may take 4.8 seconds of the hour."""
    start = time.monotonic()
    todo = [Step("hangs", 0.04, partial(fails, how="hangs")), Step("fine", 0, fine, share=1)]
    assert run(context, monkeypatch, todo) == ["hangs"]
    assert 4.8 < time.monotonic() - start < 120
    assert stopped(context) == {"hangs": ("it reached its time limit", 1)} and whole(context) == ["fine"]


@pytest.mark.parametrize(
    ("share", "left", "last", "seconds"),
    [
        (0.6, 600, False, 360),
        (0.6, 600, True, 600),
        (0.6, 100, False, 100),
        (0, 600, True, 180),
        (0.1, 600, False, 180),
    ],
)
def test_a_share_leaves_time_for_the_following_steps(share, left, last, seconds):
    assert suite.may_take(Step("trains", 1.5, fine, share=share), left, last) == pytest.approx(seconds)


def test_a_step_gets_no_more_than_the_remaining_time(context, monkeypatch):
    start = time.monotonic()
    assert run(context, monkeypatch, [Step("hangs", 0.04, partial(fails, how="hangs"))], minutes=0.05) == ["hangs"]
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    "end", [signal.SIGKILL, *(pytest.param(one, marks=pytest.mark.long) for one in (signal.SIGTERM, signal.SIGINT))]
)
def test_figures_measured_so_far_outlive_the_suite(context, tmp_path, end):
    """They are on disk and packed: the suite is ended once the first figure is written."""
    pack = tmp_path / "out" / "records.tar.gz"
    words = [str(context.folder), str(tmp_path), str(pack)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, "-c", ENDED, *words], env=environment) as process:
        while not stopped(context):
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(end)
        assert process.wait(60)
    assert stopped(context) == {"hangs": ("the suite was interrupted", 1)}
    [figure] = evidence.read(context.folder / "stopped" / "hangs.json").figures
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(figure.samples[0])).wait(30)  # it leaves nothing behind on the device
    with tarfile.open(pack) as archive:
        assert archive.getnames() == ["stopped/hangs.json"]


ENDED = """
import signal, sys
from functools import partial
from pathlib import Path
from tests.support.gpu_steps import fails
from twoview.bench.config.experiment import Place
from twoview.bench.suites.gpu import suite
from twoview.bench.suites.gpu.scale import TINY
from twoview.bench.suites.gpu.suite import Step

if __name__ == "__main__":
    folder, place, pack = map(Path, sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    suite.all_steps = lambda: [Step("hangs", 0, partial(fails, how="hangs"), share=1)]
    suite.run(folder, Place(place, place, None), 60, TINY, pack=pack)
"""


def test_a_damaged_record_is_renamed_and_measured_again(context, monkeypatch, capsys):
    context.folder.mkdir(parents=True)
    evidence.path_of(context.folder, "fine").write_text('{"half')
    assert run(context, monkeypatch, [Step("fine", 0, fine, share=1)]) == []
    assert whole(context) == ["fine"] and (context.folder / "fine.damaged").read_text() == '{"half'
    assert "fine.json is not an evidence record of twoview" in capsys.readouterr().err


def test_no_step_begins_if_nothing_can_be_written(context, monkeypatch, tmp_path):
    todo = [Step("fine", 0, fine, share=1)]
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        run(context, monkeypatch, todo, pack=tmp_path / "file" / "records.tar.gz")
    assert not whole(context)
    with pytest.raises(OSError):
        run(replace(context, folder=tmp_path / "file" / "evidence"), monkeypatch, todo)


def test_a_later_failure_to_pack_does_not_affect_the_steps(context, monkeypatch, tmp_path, capsys):
    packed, calls = suite.packed, []

    def full(folder, path):
        calls.append(path)
        if len(calls) > 1:
            raise OSError(28, "No space left on device", str(path))
        packed(folder, path)

    monkeypatch.setattr(suite, "packed", full)
    pack = tmp_path / "records.tar.gz"
    assert run(context, monkeypatch, [Step("fine", 0, fine, share=1)], pack=pack) == []
    assert whole(context) == ["fine"] and f"{pack} could not be written" in capsys.readouterr().err


IMPORTS = """
import importlib, sys, torch

def asked(*_):
    raise SystemExit("the driver was asked, and forks of this process cannot use the GPU")

torch._C._cuda_getDeviceCount = torch._C._cuda_init = torch._C._cuda_getDriverVersion = asked
for module in sys.argv[1:]:
    importlib.import_module(module)
"""


def test_the_process_that_is_forked_for_each_step_does_not_use_the_driver():
    subprocess.run([sys.executable, "-c", IMPORTS, *suite.PRELOAD], check=True)


def test_records_are_packed_as_they_come_and_read_back(context, monkeypatch, tmp_path):
    pack = tmp_path / "out" / "records.tar.gz"
    contents = []
    write = suite.packed

    def seen(folder, path):
        write(folder, path)
        with tarfile.open(path) as archive:
            contents.append(sorted(archive.getnames()))

    monkeypatch.setattr(suite, "packed", seen)
    todo = [Step("off", 0, off, share=1), Step("fine", 0, fine, share=1)]
    run(context, monkeypatch, todo, pack=pack)
    assert contents == [
        [], ["stopped/off.json"], ["off.json"], ["off.json", "stopped/fine.json"], ["fine.json", "off.json"],
    ]  # fmt: skip
    with tarfile.open(pack) as archive:
        archive.extractall(tmp_path / "back", filter="data")
    assert evidence.read(tmp_path / "back" / "fine.json") == evidence.read(evidence.path_of(context.folder, "fine"))
    pack.unlink()
    run(context, monkeypatch, todo, pack=pack)
    assert pack.exists(), "earlier records are packed, too"


def test_only_the_named_steps_run(context, monkeypatch, capsys):
    todo = [Step("off", 0, off, share=1), Step("fine", 0, fine, share=1)]
    assert run(context, monkeypatch, todo, only=["fine"]) == []
    assert whole(context) == ["fine"]
    with pytest.raises(ValueError, match=r"unknown step .fin.: .*fine"):
        run(context, monkeypatch, todo, only=["fin"])


def planned(minutes, only=(), done=()):
    """The steps that begin if each takes its expected time, or all of its share if it has one."""
    left, begun = minutes, []
    for step in suite.all_steps():
        if (not only or step.name in only) and step.name not in done and left >= step.minutes:
            begun.append(step.name)
            left -= max(step.minutes, step.share * left)
    return begun


def test_two_runs_of_five_minutes_give_the_headline_figures():
    first = planned(5, suite.FIRST)
    assert first == list(suite.FIRST) == [step.name for step in suite.all_steps()][:5]
    assert first == [
        "gpu-losses", "gpu-views-simclr-cifar", "gpu-rates", "gpu-budget-lee2025-imagenet-simclr",
        "gpu-cifar10-epoch",
    ]  # fmt: skip
    second = planned(5, done=first)
    assert second[:4] == ["gpu-cifar10-time", "gpu-cifar10-step", "gpu-method-simclr", "gpu-method-byol"]


def test_the_other_steps_are_ordered_by_value_without_duplicates():
    names = [step.name for step in suite.all_steps()]
    assert len(set(names)) == len(names)
    at = [
        names.index(name)
        for name in ("gpu-method-mae", with_lightly.NAME, "gpu-rates-half", "gpu-views-eval", "gpu-graph-simclr")
    ]
    assert at == sorted(at)
    assert {f"gpu-{kind}-{method}" for method in METHODS for kind in ("method", "graph")} < set(names)
    budgets = [name for name in names if name.startswith("gpu-budget-")]
    assert names[-len(budgets) + 1 :] == budgets[1:]


def test_every_target_belongs_to_a_record_of_the_suite():
    names = {step.name for step in suite.all_steps()}
    assert {one.record for one in TARGETS} <= names
    real, loader, hours = (
        Figure(work="another recipe", quantity=quantity, samples=[])
        for quantity in ("training_rate", "loader_rate", "projected_gpu_hours")
    )
    assert target("gpu-rates-half", real).bound == 3000 and target("gpu-rates-half", loader) is None
    assert target("gpu-budget-lee2025-imagenet-simclr", hours) is None
    minutes = [
        target("gpu-cifar10-time", Figure(work="w", quantity="time_to_accuracy", variant=goal, samples=[]))
        for goal in ("80", "85", "90")
    ]
    assert [one and one.bound for one in minutes] == [None, 5, 15]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_the_suite_ends_with_one_sentence_and_exit_code_2(capsys, tmp_path):
    assert cli.run(["suite", "gpu", "--minutes", "1", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "twoview: suite gpu needs a CUDA device, and torch sees none here; to try it: --device cpu --scale tiny"
    ]
    assert not (tmp_path / "out").exists()
    assert cli.run(["suite", "gpu", "--minutes", "0"]) == 2
    assert "--minutes must be a number above 0, got 0" in capsys.readouterr().err
    for words in (["--minutes", "nan"], ["--minutes", "inf"], ["--only", ","], ["--only", "gpu-loss", "--check"]):
        assert cli.run(["suite", "gpu", "--device", "cpu", *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and said[0].endswith("--minutes must be a number above 0, got nan")
    assert said[2] == "twoview: --only must name steps, separated by commas, got ','"
    assert cli.run(["suite", "gpu", "--device", "cpu", "--only", "gpu-loss"]) == 2
    assert "unknown step 'gpu-loss': did you mean gpu-losses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "of_gpu"),
    [
        ("gpu --out x", True),
        ("--out x gpu", True),
        ("--json gpu", True),
        ("quick --out gpu", False),
        ("--out gpu quick", False),
        ("quick --json", False),
        ("", False),
    ],
)
def test_the_suites_name_may_precede_or_follow_its_options(words, of_gpu):
    assert (suite_command.command(words.split()) is suite_gpu.run) == of_gpu


def test_the_command_shows_the_targets_with_the_measurements(capsys, tmp_path, monkeypatch):
    def measured(folder, place, minutes, scale, only, pack):
        assert minutes == 7 and place.checkpoints == tmp_path / "checkpoints"
        assert (scale, only, pack) == (Scale(), ["gpu-losses", "gpu-rates-half"], tmp_path / "records.tar.gz")
        figures = [Figure(work="SimCLR", quantity="training_rate", samples=[1000.0, 1234.0, 2000.0])]
        record = DeviceFigures(
            name="gpu-rates-half", device="cuda", figures=figures, stopped="it reached its time limit"
        )
        evidence.write(record, folder)
        return ["gpu-losses"]

    monkeypatch.setattr(suite, "run", measured)
    words = ["suite", "gpu", "--minutes", "7", "--out", str(tmp_path), "--only", "gpu-losses, gpu-rates-half"]
    words += ["--pack", str(tmp_path / "records.tar.gz")]
    assert cli.run([*words, "--json"]) == 2
    printed = capsys.readouterr()
    assert "these steps stopped early or exceeded a tolerance: gpu-losses" in printed.err
    row, stopped = json.loads(printed.out)
    assert (row["measured"], row["target"]) == ("1,234 views/s", "≥ 3,000 views/s on one H100")
    assert (stopped["metric"], stopped["note"], stopped["met"]) == ("stopped", "it reached its time limit", "")

    for path in (evidence.path_of(tmp_path / "evidence", "gpu-rates-half"), tmp_path / "index.html"):
        path.unlink()
    assert cli.run([*words, "--no-report"]) == 2
    assert not (tmp_path / "index.html").exists()


def test_the_suite_at_tiny_sizes_leaves_its_records(capsys, tmp_path, betons):
    """Three of its steps, each in its own process; `make gpu-rehearsal` runs them all."""
    words = ["suite", "gpu", "--device", "cpu", "--scale", "tiny", "--out", str(tmp_path)]
    words += ["--only", "gpu-losses,gpu-budget-lee2025-imagenet-simclr,gpu-graph-simclr"]
    assert cli.run([*words, "--pack", str(tmp_path / "records.tar.gz")]) == 0
    records, complaints = evidence.read_folder(tmp_path / "evidence")
    assert len(records) == 3 and not complaints and not any(record.stopped for record in records)
    assert "nt_xent" in (tmp_path / "index.html").read_text()
