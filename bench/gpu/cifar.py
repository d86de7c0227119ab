"""CIFAR-10 on one card: seconds an epoch, and how long until kNN accuracies are reached. Images and views lie there."""

import json
import tempfile
import time
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import torch

from bench import betons
from bench.cores import cpu_count
from bench.evidence import DeviceFigures, Figure
from bench.experiment import chosen
from bench.gpu.scale import CIFAR, Context, Skipped
from bench.gpu.stepping import peaks
from bench.memory import PeakMemory
from bench.recipe import Recipe
from loaders import beton, datasets, presets
from loaders.files import whole_file
from loaders.loader import Loader
from loaders.resident import Resident
from methods import checkpoint
from methods.probes.features import extract
from methods.probes.knn import knn_top1
from methods.trainer import Trainer

EPOCH, TIME = "gpu-cifar10-epoch", "gpu-cifar10-time"
PROBE_BATCH = 500
RESERVE = 15  # seconds before the suite's end, in which the step under way ends and its checkpoint is written


def clock_epochs(context: Context) -> DeviceFigures:
    """Seconds of whole epochs of the trainer's own loop; the first, which compiles, apart."""
    scale = context.scale
    one = scale.recipe(CIFAR, {"compile": scale.compile}).model_copy(update={"epochs": 1 + scale.clocked_epochs})
    trainer = scale.trainer(one)
    with _resident(context, one, trainer) as loader, tempfile.TemporaryDirectory() as temporary:
        memory = PeakMemory()
        trainer.fit(loader, Path(temporary, "epochs.pt"), {})
    history, work = trainer.history, _work(one)
    waits = [100 * wait / all_ for wait, all_ in zip(history.wait_seconds, history.epoch_seconds, strict=True)]
    figures = [
        Figure(work=work, figure="an epoch", unit="s", samples=history.epoch_seconds[1:]),
        Figure(work=work, figure="the first epoch, compiling", unit="s", samples=history.epoch_seconds[:1]),
        Figure(work=work, figure="data wait", unit="%", samples=waits[1:]),
        *peaks(memory, work),
    ]
    return DeviceFigures(name=EPOCH, device=scale.device, figures=figures, recipe=one.model_dump(mode="json"))


def train(context: Context) -> DeviceFigures:
    """Trains once, judged by kNN as it goes; the time of the judging does not count, that of compiling does.

    Where the suite's minutes do not reach, a checkpoint stays from which the next run goes on, and it is Skipped. A
    restart compiles again, and that counts too.
    """
    scale = context.scale
    one = scale.recipe(CIFAR, {"compile": scale.compile})
    settings = one.model_dump(mode="json")
    path = context.place.checkpoint(one)
    trainer = scale.trainer(one)
    state, _ = checkpoint.load_newest(path)
    if state:
        if state["recipe"] != settings:
            raise ValueError(f"{path} is of another recipe: name another --out")
        trainer.resume(state)
    curve = _Curve(path.with_suffix(".knn.json"))
    with _resident(context, one, trainer) as loader:
        while True:
            epochs = trainer.finished_epochs
            if epochs and (epochs % scale.judged_every == 0 or epochs == one.epochs) and epochs not in curve.knn:
                curve.add(epochs, _knn(context, one, trainer))
            if epochs == one.epochs:
                break
            if _over(context):
                raise Skipped(f"{epochs} of {one.epochs} epochs are trained: run the suite again to go on")
            _fit_to_next_judgement(context, trainer, loader, path, settings)
    return _figures(context, one, list(accumulate(trainer.history.epoch_seconds)), curve.knn)


class _Curve:
    """kNN accuracies by epoch, in a file beside the checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        known = json.loads(path.read_text()) if path.exists() else {}
        self.knn = {int(epoch): float(accuracy) for epoch, accuracy in known.items()}

    def add(self, epoch: int, accuracy: float) -> None:
        self.knn[epoch] = accuracy
        with whole_file(self.path) as part:
            part.write_text(json.dumps(self.knn))


def _fit_to_next_judgement(
    context: Context, trainer: Trainer, loader: Resident, path: Path, settings: dict[str, Any]
) -> None:
    """The trainer's own loop, stopped by a checkpoint after the next epoch that is judged, or when time is over."""
    steps = count(1 + len(trainer.history.losses))

    def stop() -> bool:
        return next(steps) % (context.scale.judged_every * len(loader)) == 0 or _over(context)

    trainer.fit(loader, path, settings, stop=stop)


def _over(context: Context) -> bool:
    return time.monotonic() > context.ends - RESERVE


def _figures(context: Context, one: Recipe, seconds: list[float], knn: dict[int, float]) -> DeviceFigures:
    """seconds: of training, after each epoch."""
    work = f"{_work(one)}, {one.epochs} epochs"
    best = max(knn.values())
    figures = []
    for goal in context.scale.goals:
        reached = [seconds[epoch - 1] / 60 for epoch, accuracy in knn.items() if accuracy >= goal]
        note = "" if reached else f"not reached: the best is {best:.2f} %"
        figures.append(Figure(work=work, figure=f"time to {goal:g} % kNN", unit="min", samples=reached[:1], note=note))
    after = f"after epochs {', '.join(map(str, knn))}"
    figures += [
        Figure(work=work, figure="kNN, the best", unit="%", samples=[best]),
        Figure(work=work, figure="kNN as it goes", unit="%", samples=list(knn.values()), note=after, course=True),
        Figure(work=work, figure="training after each epoch", unit="s", samples=seconds, course=True),
    ]
    return DeviceFigures(name=TIME, device=context.scale.device, figures=figures, recipe=one.model_dump(mode="json"))


def _knn(context: Context, one: Recipe, trainer: Trainer) -> float:
    """Weighted kNN of the probe's k and temperature, the training images as its bank."""

    def features(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        file = _file(context, one, split)
        used, views = chosen(file.labels, 0, count), presets.preset("eval", one.size)
        with Loader(
            file, views, PROBE_BATCH, indices=used, shuffle=False, drop_last=False, threads=cpu_count()
        ) as loader:
            return extract(trainer.method.encode, loader, trainer.normalise, trainer.device, lambda: None)

    trainer.method.eval()
    bank, query = features("train", one.probe.train_images), features("test", one.probe.test_images)
    probe = one.probe
    return knn_top1(*bank, *query, k=probe.k, temperature=probe.temperature, device=trainer.device)


def _resident(context: Context, one: Recipe, trainer: Trainer) -> Resident:
    file = _file(context, one, "train")
    used = chosen(file.labels, one.held_out, one.train_images)
    method, device = trainer.method, trainer.device
    return Resident(file, method.views, one.batch, masks=method.masks, device=device, indices=used, seed=one.seed)


def _file(context: Context, one: Recipe, split: str) -> beton.Beton:
    """Nothing is downloaded. Skipped where the data are not there."""
    try:
        datasets.dataset(one.dataset).read(context.place.root, split)
    except FileNotFoundError as missing:
        raise Skipped(str(missing)) from None
    return betons.of_dataset(one.dataset, split, context.place.betons, context.place.root)


def _work(one: Recipe) -> str:
    return f"SimCLR, {one.backbone.name} at {one.size}, batch {one.batch}, {one.dataset}"
