"""Training rates on JPEGs and their two ceilings, measured in turn: the loader alone, and the model alone."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from twoview.bench.data import betons
from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.measurement.energy import Energy
from twoview.bench.measurement.flops import counted, matrix_ceiling, mfu
from twoview.bench.measurement.memory import PeakMemory
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.suites.gpu.scale import HEADLINE, Context, Scale
from twoview.bench.training.steps import LEAD, arrivals, loaded, now, peaks, stepped
from twoview.loaders import beton, datasets
from twoview.loaders.loader import Loader
from twoview.methods.device_batches import DeviceBatch, on_device
from twoview.methods.precision import DTYPES
from twoview.methods.trainer import Objective, Trainer

NAME, HALF = "gpu-rates", "gpu-rates-half"


def measure(context: Context, name: str) -> Iterator[DeviceFigures]:
    """Measure SimCLR's ResNet-50 at 224 pixels in Lee 2025's setting.

    The loader alone, the model alone and both together run in turn, `scale.rounds` times. The record NAME has the
    recipe's batch size, HALF has half of it.

    The training rate includes making views from JPEGs, copying them and training on them. Efficiency is its ratio to
    the smaller ceiling of the same round; data wait is the share of the time in which the device waits for a batch.
    """
    scale, place = context.scale, context.place
    file, dataset = jpegs(place.betons, place.root, scale.jpegs)
    one = scale.recipe(HEADLINE, dataset=dataset, compile=scale.compile)
    batch = one.batch // 2 if name == HALF else one.batch
    one = one.model_copy(update={"batch": batch})
    trainer = scale.trainer(one)
    views = batch * len(trainer.method.views)
    images = np.arange(batch * (LEAD + scale.steps + 1)) % len(file)
    work = f"SimCLR, {one.backbone.name} at {one.size}, batch {batch}, {dataset}"
    empty = DeviceFigures(
        name=name,
        data=betons.identity(file),
        device=scale.device,
        figures=[],
        recipe=one.model_dump(mode="json"),
    )
    loader = Loader(
        file,
        trainer.method.views,
        batch,
        masks=trainer.method.masks,
        indices=images,
        threads=cpu_count(),
        pin=scale.where.type == "cuda",
    )
    with loader:
        first = next(on_device(loader.epoch(0), scale.where))
        memory = PeakMemory()
        start = now(scale.where)
        stepped(trainer, first, 0, scale.warmup)
        warmup = Figure(
            work=work, quantity="warmup_time", variant=str(scale.warmup), samples=[now(scale.where) - start]
        )
        yield empty.plus(warmup)
        rounds = Rounds()
        for number in range(scale.rounds):
            rounds.loader.append(views * scale.steps / arrivals(loader, number, scale.steps))
            clock = stepped(trainer, first, 1, scale.steps)
            rounds.step_seconds.extend(clock.step_seconds)
            rounds.model.append(views / statistics.mean(clock.step_seconds))
            energy = Energy(scale.where)
            clock = loaded(trainer, loader, number, scale.steps)
            waits, seconds = sum(clock.wait_seconds), sum(clock.wait_seconds) + sum(clock.step_seconds)
            if energy.joules is not None:
                rounds.joules.append(energy.joules / (views * (LEAD + scale.steps)))
            rounds.real.append(views * scale.steps / seconds)
            rounds.waits.append(waits / seconds)
            record = empty.plus(*rounds.figures(work), warmup, *peaks(memory, work))
            yield record
        yield record.plus(*utilization(scale, trainer, first, work, statistics.median(rounds.step_seconds)))


@dataclass(frozen=True)
class Rounds:
    """Samples of all rounds. loader, model, real: views/s of the loader alone, of the model alone and of training.

    step_seconds: times of the model's steps alone. waits: share of training's time spent waiting. joules: energy per
    view.
    """

    loader: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)

    def figures(self, work: str) -> Iterator[Figure]:
        """Yield the figures of the rounds, with efficiency in percent of the smaller ceiling."""
        ceilings = map(min, self.loader, self.model)
        efficiency = [100 * real / ceiling for real, ceiling in zip(self.real, ceilings, strict=True)]
        yield Figure(work=work, quantity="loader_rate", samples=self.loader)
        yield Figure(work=work, quantity="model_rate", samples=self.model)
        yield Figure(work=work, quantity="training_rate", samples=self.real)
        yield Figure(work=work, quantity="efficiency", samples=efficiency)
        yield Figure(work=work, quantity="data_wait", samples=[100 * wait for wait in self.waits])
        milliseconds = [1000 * seconds for seconds in self.step_seconds]
        yield Figure(work=work, quantity="step_time_model_alone", samples=milliseconds)
        if self.joules:
            yield Figure(work=work, quantity="energy_per_view", samples=self.joules)


def utilization(scale: Scale, trainer: Trainer, batch: DeviceBatch, work: str, seconds: float) -> Iterator[Figure]:
    """Yield a step's FLOPs, and its FLOP/s as a share of the device's measured ceiling for matrix products (MFU).

    seconds: time of a step. After this call the trainer must not be used again. FLOPs are counted on a step that is not
    compiled and needs more memory; if the memory is too small, there is a note instead of these figures.
    """
    plain = Objective(trainer.method, trainer.normalize, trainer.device, trainer.precision)
    flops, note = [], ""
    try:
        flops = [counted(lambda: plain(batch.views, batch.label, batch.masks)["loss"])]
    except torch.OutOfMemoryError as error:
        note = f"not counted: {' '.join(str(error).split())}"
    trainer.optimizer.zero_grad(set_to_none=True)
    yield Figure(work=work, quantity="step_flops", samples=flops, note=note)
    if note:
        return
    shares = [
        100 * mfu(flops[0], seconds, ceiling) for ceiling in matrix_ceiling(scale.where, DTYPES[trainer.precision])
    ]
    yield Figure(work=work, quantity="mfu", samples=shares)


def jpegs(folder: Path, root: Path | None, most: int) -> tuple[beton.Beton, str]:
    """Return a beton file of JPEGs and the name of its dataset.

    They are at most `most` evenly chosen images of the data root's ImageNet, or, without one, the bundled photographs.
    """
    try:
        samples = datasets.dataset("imagenet").read(root, "train")
    except FileNotFoundError:
        return betons.dataset_beton(datasets.dataset("photographs"), "train", folder, root), "photographs"
    path = folder / f"imagenet-{most}.beton"
    if not path.exists():
        every = max(1, len(samples) // most)
        for _ in beton.write(path, min(most, len(samples)), lambda number: samples.stored(number * every), cpu_count()):
            pass
    return beton.open_beton(path), "imagenet"
