"""Rates of training on JPEGs beside their two ceilings, in turn: the loader alone, and the model alone."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench import betons
from bench.cores import cpu_count
from bench.energy import Energy
from bench.evidence import DeviceFigures, Figure
from bench.flops import counted, matrix_ceiling, mfu
from bench.gpu.scale import HEADLINE, Context, Scale
from bench.gpu.stepping import LEAD, arrivals, loaded, now, peaks, stepped
from bench.memory import PeakMemory
from loaders import beton, datasets
from loaders.loader import Loader
from methods.precision import DTYPES
from methods.trainer import Objective, Trainer
from methods.transfer import Moved, on_device


def name_of(batch: int) -> str:
    return f"gpu-rates-{batch}"


def measure(context: Context, batch: int) -> DeviceFigures:
    """SimCLR's ResNet-50 at 224 in Lee 2025's setting: loader, model and both, `scale.rounds` times in turn.

    `real` is what training does: batches rendered from JPEGs, copied and trained on. Its efficiency is over the smaller
    ceiling of the same round; data wait is the share of its step times in which the device stood waiting for a batch.
    """
    scale, place = context.scale, context.place
    file, dataset = jpegs(place.betons, place.root, scale.jpegs)
    one = scale.recipe(HEADLINE, {"dataset": dataset, "batch": batch, "compile": scale.compile})
    batch = one.batch
    trainer = scale.trainer(one)
    views = batch * len(trainer.method.views)
    images = np.arange(batch * (LEAD + scale.steps + 1)) % len(file)
    work = f"SimCLR, {one.backbone.name} at {one.size}, batch {batch}, {dataset}"
    rates: dict[str, list[float]] = {"loader alone": [], "model alone": [], "real": []}
    waits, joules, step_seconds = [], [], []
    pin = scale.where.type == "cuda"
    with Loader(
        file,
        trainer.method.views,
        batch,
        masks=trainer.method.masks,
        indices=images,
        threads=cpu_count(),
        pin=pin,
    ) as loader:
        first = next(on_device(loader.epoch(0), scale.where))
        memory = PeakMemory()
        start = now(scale.where)
        stepped(trainer, first, 0, scale.warmup)
        warmup = now(scale.where) - start
        for number in range(scale.rounds):
            rates["loader alone"].append(views * scale.steps / arrivals(loader, number, scale.steps))
            clock = stepped(trainer, first, 1, scale.steps)
            step_seconds += clock.step_seconds
            rates["model alone"].append(views / statistics.mean(clock.step_seconds))
            energy = Energy(scale.where)
            seconds, clock = loaded(trainer, loader, number, scale.steps)
            if energy.joules is not None:
                joules.append(energy.joules / (views * (LEAD + scale.steps)))
            rates["real"].append(views * scale.steps / seconds)
            waits.append(100 * sum(clock.wait_seconds) / (sum(clock.wait_seconds) + sum(clock.step_seconds)))
        figures = [Figure(work=work, figure=name, unit="views/s", samples=samples) for name, samples in rates.items()]
        ceilings = zip(rates["real"], rates["loader alone"], rates["model alone"], strict=True)
        efficiency = [100 * real / min(alone) for real, *alone in ceilings]
        figures += [
            Figure(work=work, figure="efficiency", unit="%", samples=efficiency),
            Figure(work=work, figure="data wait", unit="%", samples=waits),
            Figure(work=work, figure="step, model alone", unit="ms", samples=[1000 * s for s in step_seconds]),
            Figure(work=work, figure=f"first {scale.warmup} steps, compiling", unit="s", samples=[warmup]),
            *peaks(memory, work),
            *utilisation(scale, trainer, first, work, statistics.median(step_seconds)),
        ]
        if joules:
            figures.append(Figure(work=work, figure="energy", unit="J/view", samples=joules))
    return DeviceFigures(
        name=name_of(batch),
        data=betons.identity(file),
        device=scale.device,
        figures=figures,
        recipe=one.model_dump(mode="json"),
    )


def utilisation(scale: Scale, trainer: Trainer, batch: Moved, work: str, seconds: float) -> Iterator[Figure]:
    """A step's FLOPs, and its FLOP/s as a share of the device's measured matrix ceiling. Spends the trainer.

    What is counted is not compiled, and needs more memory: where that is too little, the rates stand without it.
    """
    plain = Objective(trainer.method, trainer.normalise, trainer.device, trainer.precision)
    flops, note = [], ""
    try:
        flops = [counted(lambda: plain(*batch)["loss"])]
    except torch.OutOfMemoryError as error:
        note = f"not counted: {' '.join(str(error).split())}"
    trainer.optimiser.zero_grad(set_to_none=True)
    yield Figure(work=work, figure="FLOPs of a step", unit="FLOP", samples=flops, note=note)
    if note:
        return
    shares = [
        100 * mfu(flops[0], seconds, ceiling) for ceiling in matrix_ceiling(scale.where, DTYPES[trainer.precision])
    ]
    yield Figure(work=work, figure="model FLOPs utilisation", unit="%", samples=shares)


def jpegs(folder: Path, root: Path | None, most: int) -> tuple[beton.Beton, str]:
    """A beton file of JPEGs and its dataset: of the data root's ImageNet, evenly chosen, or the bundled photographs."""
    try:
        samples = datasets.dataset("imagenet").read(root, "train")
    except FileNotFoundError:
        return betons.of_dataset("photographs", "train", folder, root), "photographs"
    path = folder / f"imagenet-{most}.beton"
    if not path.exists():
        every = max(1, len(samples) // most)
        for _ in beton.write(path, min(most, len(samples)), lambda number: samples.stored(number * every), cpu_count()):
            pass
    return beton.open_beton(path), "imagenet"
