"""The GPU suite with tiny sizes on the CPU: every step's code runs, and a wrong device, a failure and a cut are seen.

What only a GPU has is not tried here: events, copies on a side stream, compiled steps, its memory, energy and kernels.
"""

import json
import threading
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from bench import budget, cli, evidence, recipe
from bench.evidence import DeviceFigures, Figure
from bench.experiment import Place, build_method
from bench.gpu import beside_lightly, cifar, correctness, rates, steps, suite
from bench.gpu.scale import HEADLINE, Context, Scale, Skipped
from bench.gpu.stepping import resident_batch
from bench.gpu.suite import Step
from bench.gpu.targets import TARGETS, target
from bench.peers.job import StepJob
from loaders.resident import Resident
from methods.registry import METHODS

TINY = Scale(
    device="cpu",
    compile="off",
    loss_batch=16,
    loss_dim=8,
    pictures=8,
    batches=(4,),
    rounds=2,
    warmup=1,
    steps=2,
    step_batch=4,
    clocked_epochs=2,
    judged_every=2,
    goals=(5.0, 100.5),
    jpegs=50,
    settings={
        "size": 16,
        "precision": "fp32",
        "backbone": {"name": "resnet-small", "width": 8},
        "method": {"hidden": 16, "projection": 8, "queue": 16},
    },
)
SMALL_DATA = {"dataset": "fashion-mnist", "train_images": 64, "batch": 16, "epochs": 5}
CIFAR = replace(TINY, settings=TINY.settings | SMALL_DATA | {"probe": {"train_images": 100, "test_images": 50}})


@pytest.fixture
def context(tmp_path):
    place = Place(tmp_path / "betons", tmp_path / "checkpoints", None)
    return Context(TINY, place, tmp_path / "evidence", time.monotonic() + 3600)


@pytest.fixture
def small_data(context, betons):
    """The same, with Fashion-MNIST in CIFAR-10's place."""
    return replace(context, scale=CIFAR, place=replace(context.place, betons=betons))


def by_figure(record):
    return {figure.figure: figure for figure in record.figures}


def test_every_loss_is_checked_and_the_cpu_agrees_with_itself(context):
    record = correctness.losses(context)
    checked = {figure.work for figure in record.figures}
    assert checked >= {"nt_xent", "laplacian", "concat", "vicreg", "barlow", "byol", "supcon", "moco", "moco_sum"}
    assert checked >= {"msn", "pmsn", "mae", "data2vec", "nt_xent, in tiles"}
    assert all(figure.samples == [0] and not figure.off for figure in record.figures)


@pytest.mark.parametrize("wrong", ["value", "gradient"])
def test_a_device_that_computes_a_loss_wrongly_is_seen(context, monkeypatch, wrong):
    """One part in a thousand, in one of them."""
    right = correctness._value_and_gradient
    calls = []

    def off(loss, scale, device):
        value, gradient = right(loss, scale, device)
        calls.append(device)
        factor = 1.001 if len(calls) % 2 else 1  # the device comes before the processor
        return (value * factor, gradient) if wrong == "value" else (value, gradient * factor)

    monkeypatch.setattr(correctness, "_value_and_gradient", off)
    figures = correctness.losses(context).figures
    assert [figure.figure.startswith(wrong) for figure in figures] == [figure.off for figure in figures]


def test_views_made_on_the_device_agree_and_a_wrong_one_is_seen(context, monkeypatch):
    record = correctness.views(context)
    assert {figure.work for figure in record.figures} == set(correctness.PRESETS)
    assert all(figure.samples == [0] for figure in record.figures)

    batch_of = Resident._batch

    def two_levels_off(self, positions, epoch):
        batch = batch_of(self, positions, epoch)
        return batch._replace(views=tuple(view ^ 2 for view in batch.views))

    monkeypatch.setattr(Resident, "_batch", two_levels_off)
    levels = [figure for figure in correctness.views(context).figures if figure.tolerance is not None]
    assert len(levels) == len(correctness.PRESETS) and all(figure.off and figure.samples == [2] for figure in levels)


def test_a_check_that_gives_no_number_fails():
    assert Figure(work="w", figure="f", unit="x", samples=[float("nan")], tolerance=1).off


def test_rates_of_loader_model_and_both(context):
    record = rates.measure(context, 4)
    found = by_figure(record)
    assert record.name == "gpu-rates-4" and record.recipe["batch"] == 4 and record.recipe["dataset"] == "photographs"
    for name in ("loader alone", "model alone", "real", "efficiency", "data wait"):
        assert len(found[name].samples) == 2
    for real, loader, model, efficiency in zip(
        *(found[name].samples for name in ("real", "loader alone", "model alone", "efficiency")), strict=True
    ):
        assert efficiency == pytest.approx(100 * real / min(loader, model))
    assert all(0 <= share < 100 for share in found["data wait"].samples)
    assert found["model FLOPs utilisation"].median > 0 and found["step, model alone"].median > 0


def test_rates_stand_where_the_memory_is_too_little_to_count_their_work(context, monkeypatch):
    def counted(loss):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 80 GiB")

    monkeypatch.setattr(rates, "counted", counted)
    one = TINY.recipe(HEADLINE, {"batch": 4})
    trainer = TINY.trainer(one)
    [figure] = rates.utilisation(TINY, trainer, resident_batch(one, trainer), "work", 1.0)
    assert not figure.samples and figure.note == "not counted: CUDA out of memory. Tried to allocate 80 GiB"


def test_kernels_are_chosen_as_in_training(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    TINY.trainer(TINY.recipe(HEADLINE))
    assert torch.backends.cudnn.benchmark


def test_jpegs_are_imagenet_s_where_it_is_there(tmp_path):
    for number in range(1000):
        folder = tmp_path / "root" / "imagenet" / "train" / f"n{number:08}"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (number % 256, number // 256, 0)).save(folder / "one.JPEG")
    file, dataset = rates.jpegs(tmp_path, tmp_path / "root", 50)
    assert dataset == "imagenet" and list(file.labels) == list(range(0, 1000, 20))
    assert rates.jpegs(tmp_path, tmp_path / "root", 50)[0].path == file.path, "made once"
    assert rates.jpegs(tmp_path, None, 50)[1] == "photographs"


def test_epochs_and_time_to_an_accuracy(small_data):
    epochs = by_figure(cifar.clock_epochs(small_data))
    assert len(epochs["an epoch"].samples) == 2 and len(epochs["the first epoch, compiling"].samples) == 1

    record = cifar.train(small_data)
    found = by_figure(record)
    knn, seconds = found["kNN as it goes"], found["training after each epoch"].samples
    assert knn.note == "after epochs 2, 4, 5" and len(knn.samples) == 3 and sorted(seconds) == seconds
    assert found["time to 5 % kNN"].samples == [seconds[1] / 60]
    assert found["time to 100.5 % kNN"].samples == [] and "not reached" in found["time to 100.5 % kNN"].note
    assert found["kNN, the best"].samples == [max(knn.samples)]


def test_a_training_that_the_minutes_cut_goes_on_and_ends_as_one_that_was_not(small_data, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    asked = []

    def after_nine_steps(_):
        asked.append(1)
        return len(asked) > 9

    monkeypatch.setattr(cifar, "_over", after_nine_steps)
    with pytest.raises(Skipped, match=r"2 of 5 epochs are trained: run the suite again"):
        cifar.train(small_data)
    monkeypatch.undo()
    cut = by_figure(cifar.train(small_data))
    whole = by_figure(cifar.train(replace(small_data, place=replace(small_data.place, checkpoints=tmp_path / "whole"))))
    assert cut["kNN as it goes"].samples == whole["kNN as it goes"].samples
    assert len(cut["training after each epoch"].samples) == 5

    other = replace(small_data, scale=replace(CIFAR, settings=CIFAR.settings | {"batch": 8}))
    with pytest.raises(ValueError, match=r"simclr-seed0\.pt is of another recipe: name another --out"):
        cifar.train(other)


def test_cifar_10_that_is_not_there_is_skipped_by_name_and_not_downloaded(context):
    for step in (cifar.clock_epochs, cifar.train):
        with pytest.raises(Skipped, match="cifar10 needs a data root"):
            step(context)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_every_method(context, method):
    if method in steps.OF_A_VIT:
        vit = {"size": 28, "backbone": {"name": "vit-mini", "patch": 4}}
        small = {"hidden": 16, "projection": 8, "layers": 2, "decoder_width": 16}
        context = replace(context, scale=replace(TINY, settings=TINY.settings | vit | {"method": small}))
    record = steps.of_method(context, method)
    found = by_figure(record)
    assert record.recipe["method"]["name"] == method and record.recipe["epochs"] == 100
    assert len(found["step"].samples) == 2 and found["peak host memory"].median > 0
    views = len(build_method(recipe.parse(record.recipe, method)).views)
    assert found["rate"].median == pytest.approx(1000 * 4 * views / found["step"].median)


def test_every_stated_budget_is_projected_from_a_measured_step():
    alike = steps.budgets()
    stated = {path.stem for path in recipe.all_files() if recipe.load(path.stem).budget.gpus}
    assert sorted(name for names in alike.values() for name in names) == sorted(stated)
    assert next(iter(alike)) == HEADLINE
    for first, names in alike.items():
        ours = recipe.load(first)
        for other in map(recipe.load, names):
            assert (other.method, other.backbone, other.batch) == (ours.method, ours.backbone, ours.batch)


def test_a_budget_s_step_with_its_work_and_no_projection_from_too_few(context):
    record = steps.of_budget(context, (HEADLINE,))
    found = by_figure(record)
    assert len(found["step"].samples) == 2 and found["FLOPs of a step"].median > 0
    assert found["model FLOPs utilisation"].median > 0
    projected = found[steps.PROJECTED]
    assert projected.samples == [] and projected.note.startswith("no projection: 0 of 2 measured steps are steady, 30")
    assert "8 x NVIDIA V100, 60 hours, 13 GiB each (found: about 2.5 days" in projected.note


def test_a_projection_names_its_steps_and_the_source_s_budget():
    """By hand: 1,281,167 images in batches of 512 are 2,502 whole steps an epoch, 250,200 in 100 epochs."""
    one = recipe.load(HEADLINE)
    figures = [Figure(work="w", figure="step", unit="ms", samples=[400.0, 500.0, 600.0] * 20)]
    record = DeviceFigures(name="r", device="cpu", figures=figures, recipe=one.model_dump(mode="json"))
    alone = steps._projected(one, budget.measured(record))
    assert alone.samples == [pytest.approx(250_200 * 0.5 / 3600)]
    assert "250,200 steps; the model alone, 0.5 s a step" in alone.note and "in r; 95 % interval" in alone.note
    assert "8 x NVIDIA V100, 60 hours, 13 GiB each (found: about 2.5 days" in alone.note


def test_a_projection_takes_real_training_where_that_was_measured(context):
    """1,024 views in 0.4 s alone; training does four fifths of that rate."""
    samples = {"step, model alone": [400.0] * 30, "model alone": [2560.0], "real": [2048.0]}
    figures = [Figure(work="w", figure=name, unit="u", samples=values) for name, values in samples.items()]
    values = recipe.load(HEADLINE).model_dump(mode="json") | {"dataset": "photographs"}
    record = DeviceFigures(name="gpu-rates-512", device="cpu", figures=figures, recipe=values)
    evidence.write(record, context.folder)
    projected = by_figure(steps.of_budget(context, (HEADLINE,)))[steps.PROJECTED]
    assert projected.samples == [pytest.approx(250_200 * 0.5 / 3600)]
    assert "training on JPEGs, 0.5 s a step, 30 steady ones in gpu-rates-512" in projected.note


def test_a_budget_that_states_no_hours_says_so():
    assert steps.spent(recipe.load("tan2024-cifar10-simclr-400").budget) == (
        "1 x NVIDIA A100 (found: one A100; hours and memory not found)"
    )


def test_the_step_beside_lightly_s(context):
    settings = {"size": 32, "precision": "fp32", "backbone": {"name": "resnet18"}}
    record = beside_lightly.measure(replace(context, scale=replace(TINY, settings=settings)))
    found = by_figure(record)
    ours, theirs, ratio = (found[name].samples for name in ("step in twoview", "step in lightly", "twoview / lightly"))
    assert len(ours) == len(theirs) == 2
    assert ratio == [our / their for our, their in zip(ours, theirs, strict=True)]


def test_lightly_s_step_is_the_same_network_and_learns():
    from bench.peers.lightly import Step as Theirs
    from bench.peers.twoview import Step as Ours

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


# What the suite runs in a process of its own has to be found there by name.
def fine(context):
    return DeviceFigures(name="fine", device="cpu", figures=[Figure(work="w", figure="f", unit="s", samples=[1.0])])


def off(context):
    figure = Figure(work="nt_xent", figure="value off", unit="x", samples=[0.5], tolerance=0.1)
    return DeviceFigures(name="off", device="cpu", figures=[figure])


def lingers(context):
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return fine(context)


def fails(context, how):
    if how == "skips":
        raise Skipped("there is no data")
    if how == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 80 GiB")
    if how == "dies":
        raise SystemExit(9)
    if how == "hangs":
        time.sleep(3600)
    raise RuntimeError("the device is lost")


def run(context, monkeypatch, todo, minutes=60.0):
    monkeypatch.setattr(suite, "all_steps", lambda scale: todo)
    return suite.run(context.folder, context.place, minutes, TINY)


def test_a_step_that_fails_or_cannot_be_done_ends_alone(context, monkeypatch, capsys):
    todo = [
        *(Step(how, 0, partial(fails, how=how)) for how in ("skips", "memory", "dies", "lost")),
        Step("off", 0, off),
        Step("long", 120, fine),
        Step("fine", 0, fine),
    ]
    assert run(context, monkeypatch, todo) == ["dies", "lost", "off"]
    said = " ".join(capsys.readouterr().err.split())
    assert "[1/7] skips: skipped: there is no data" in said
    assert "[2/7] memory: skipped: CUDA out of memory. Tried to allocate 80 GiB" in said
    assert "dies: failed: its process ended with 9" in said and "the device is lost" in said
    assert "beyond tolerance: nt_xent: value off 0.5 x" in said
    assert "[6/7] long: skipped, because it takes about 120 minutes and" in said
    records, complaints = evidence.read_folder(context.folder)
    assert sorted(record.name for record in records) == ["fine", "off"] and not complaints

    before = evidence.path_of(context.folder, "fine").read_bytes()
    assert run(context, monkeypatch, todo[-1:]) == []
    assert "fine: finished before, kept" in " ".join(capsys.readouterr().err.split())
    assert evidence.path_of(context.folder, "fine").read_bytes() == before


def test_a_process_that_does_not_end_behind_its_answer_is_ended(context, monkeypatch):
    monkeypatch.setattr(suite, "LETTING_GO", 0.5)
    assert run(context, monkeypatch, [Step("fine", 0, lingers)]) == []
    assert evidence.path_of(context.folder, "fine").exists()


def test_a_step_that_overruns_the_minutes_is_ended(context, monkeypatch, capsys):
    todo = [Step("hangs", 0, partial(fails, how="hangs")), Step("fine", 0.01, fine)]
    assert run(context, monkeypatch, todo, minutes=0.05) == ["hangs"]
    said = " ".join(capsys.readouterr().err.split())
    assert "hangs: failed: the minutes were over" in said and "fine: skipped" in said
    assert not context.folder.exists()


def test_the_steps_are_in_order_of_value_and_named_as_their_records():
    names = [step.name for step in suite.all_steps(Scale())]
    assert names[:6] == ["gpu-losses", "gpu-views", "gpu-rates-256", "gpu-rates-512", cifar.EPOCH, cifar.TIME]
    assert names[6 : 6 + len(METHODS)] == [f"gpu-method-{method}" for method in METHODS]
    assert names[-1] == beside_lightly.NAME and len(set(names)) == len(names)


def test_every_target_is_of_a_record_that_the_suite_makes():
    names = {step.name for step in suite.all_steps(Scale())}
    assert {one.record for one in TARGETS} <= names
    assert target("gpu-rates-256", "real", "anything").bound == 3000
    assert target("gpu-budget-lee2025-imagenet-simclr", steps.PROJECTED, "another recipe") is None
    assert target("gpu-rates-256", "loader alone", "") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_it_ends_with_one_sentence_and_exit_code_2(capsys, tmp_path):
    assert cli.run(["suite", "gpu", "--minutes", "1", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines() == ["twoview: suite gpu needs a CUDA device, and torch sees none here"]
    assert not (tmp_path / "out").exists()
    assert cli.run(["suite", "gpu", "--minutes", "0"]) == 2
    assert "--minutes must be above 0, not 0" in capsys.readouterr().err


def test_the_command_shows_the_targets_beside_what_was_measured(capsys, tmp_path, monkeypatch):
    def measured(folder, place, minutes):
        assert minutes == 7 and place.checkpoints == tmp_path / "checkpoints"
        figures = [Figure(work="SimCLR", figure="real", unit="views/s", samples=[1000.0, 1234.0, 2000.0])]
        evidence.write(DeviceFigures(name="gpu-rates-256", device="cuda", figures=figures), folder)
        return ["gpu-losses"]

    monkeypatch.setattr(suite, "run", measured)
    assert cli.run(["suite", "gpu", "--minutes", "7", "--out", str(tmp_path), "--json"]) == 2
    printed = capsys.readouterr()
    assert "failed, or beyond their tolerance: gpu-losses" in printed.err
    [row] = json.loads(printed.out)
    assert (row["measured"], row["target"]) == ("1,234 views/s", "≥ 3,000 views/s")
