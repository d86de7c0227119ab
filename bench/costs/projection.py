"""What a pretraining comes to in the whole, from steps that were measured: never from a loader's rate.

A projection is so many epochs of so many steps of the median steady step. Its interval is that of the median, by the
block bootstrap (`bench/measurement/bootstrap.py`), since neighboring steps hang together. It says from how many steps
it comes, and there is none from fewer than FEWEST.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twoview.bench.config import recipe
from twoview.bench.config.experiment import views_of
from twoview.bench.config.recipe import Recipe
from twoview.bench.evidence import AnyRecord, DeviceFigures, Figure, Run
from twoview.bench.measurement import clocks
from twoview.bench.measurement.bootstrap import LEVEL, RESAMPLES, stretches
from twoview.bench.measurement.memory import MIB
from twoview.loaders import datasets

FEWEST = 30  # steady steps
WINDOW, TOLERANCE = FEWEST // 2, 0.1  # a busy machine's single steps differ by more, and that widens the interval
# What the time of a step does not depend on, or what is ours to choose for the same result.
FREE = {"name", "dataset", "epochs", "train_images", "held_out", "long_tail", "probe", "seed", "optim", "precision"}
FREE |= {"compile", "cuda_graph", "sync_batchnorm", "deterministic", "loader_threads", "resident", "checkpoint_steps"}
FREE |= {"damaged", "classes_per_batch", "classes_per_rank", "with_replacement"}


@dataclass(frozen=True)
class Steps:
    """What a record says of its recipe's step.

    seconds: of each, without the wait for its batch. idle: the share of training's time that steps are not, mostly
    waits for batches; None where the model ran alone, on a batch that lay on its device. gpus: 0 where the processor
    did it. views, flops, joules: of a step, on all devices. mfu: the share of a large matrix product's measured FLOP/s.
    memory_gib: the peak on each device, or of the process.
    """

    record: str
    machine: str
    device: str
    recipe: Recipe[Any]
    seconds: list[float]
    idle: float | None
    views: int
    gpus: int
    precision: str
    memory_gib: float
    flops: float | None = None
    mfu: float | None = None
    joules: float | None = None


@dataclass(frozen=True)
class Projection:
    """steps: of the whole; measured: the steady ones that it comes from. seconds: of a step, waits included.

    hours: of wall time, with the interval from low to high.
    """

    steps: int
    measured: int
    seconds: float
    hours: float
    low: float
    high: float


def cost_of(one: Recipe[Any]) -> str:
    """What the time of a step depends on: equal costs, equal text. The number of classes hardly does."""
    return f"{one.model_dump_json(include=set(one.settings()) - FREE)} {one.optim.name}"


def steps_an_epoch(one: Recipe[Any]) -> int:
    """Whole batches. ValueError where only the data tell how many images there are."""
    if one.long_tail.ratio > 1:
        raise ValueError(f"{one.name}: how many images its long tail leaves is known only from the data")
    images = one.train_images or (datasets.dataset(one.dataset).sizes["train"] or 0) - one.held_out
    if images < one.batch:
        raise ValueError(f"{one.name}: an epoch of {images} images has no batch of {one.batch}")
    return images // one.batch


def projection(one: Recipe[Any], seconds: Sequence[float], idle: float = 0.0) -> Projection:
    """The recipe's pretraining at these steps. ValueError, saying how many there are, with too few steady ones."""
    start = clocks.steady(seconds, WINDOW, TOLERANCE)
    steady = seconds[start:] if start is not None else []
    if len(steady) < FEWEST:
        raise ValueError(
            f"no projection: {len(steady)} of {len(seconds)} measured steps are steady, {FEWEST} are needed"
        )
    parts = stretches(steady)
    draws = np.median(parts[np.random.default_rng(0).integers(len(parts), size=(RESAMPLES, len(parts)))], axis=1)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    steps, middle = one.epochs * steps_an_epoch(one), statistics.median(steady)
    hours = steps / (1 - idle) / 3600
    return Projection(
        steps=steps,
        measured=len(steady),
        seconds=middle / (1 - idle),
        hours=hours * middle,
        low=hours * min(middle, float(low)),
        high=hours * max(middle, float(high)),
    )


def measured(record: AnyRecord) -> Steps | None:
    """The steps of a record; None where it is not of steps. ValueError where its recipe is not of this version."""
    if isinstance(record, Run):
        return _training_steps(record)
    if isinstance(record, DeviceFigures) and record.recipe:
        return _device_steps(record, recipe.parse(record.recipe, record.name))
    return None


def _training_steps(record: Run) -> Steps | None:
    training = record.training
    if not training or not training.step_seconds:
        return None
    gpus = max(1, len(training.rank_wait_seconds)) if training.device.startswith("cuda") else 0
    per_device = training.joules / len(training.step_seconds) if training.joules is not None else None
    return Steps(
        record=record.name,
        machine=record.environment.machine,
        device=record.environment.gpu or "GPU" if gpus else "CPU",
        recipe=recipe.parse(record.recipe, record.name),
        seconds=training.step_seconds,
        idle=training.data_wait_share,
        views=round(training.views_per_epoch * len(training.epoch_seconds) / len(training.step_seconds)),
        gpus=gpus,
        precision=training.precision,
        memory_gib=(training.peak_device_mib or training.peak_host_mib) * MIB / 2**30,
        flops=training.step_flops,
        mfu=training.mfu,
        joules=None if per_device is None else per_device * max(1, gpus),
    )


def _device_steps(record: DeviceFigures, one: Recipe[Any]) -> Steps | None:
    """Of `twoview suite gpu`: a step of a method or a budget, or the rates of training on JPEGs."""
    # What has a variant is of one side of a comparison.
    figures = {figure.quantity: figure for figure in record.figures if not figure.variant}
    step = figures.get("step_time") or figures.get("step_time_model_alone")
    if not step or not step.samples:
        return None
    seconds = [sample / 1000 for sample in step.samples]
    alone, real = _median(figures.get("model_rate")), _median(figures.get("training_rate"))
    rate, joules_a_view = _median(figures.get("step_rate")), _median(figures.get("energy_per_view"))
    per_image = len(views_of(one))
    views = round(rate * statistics.median(seconds)) if rate else one.batch * per_image
    flops, share = _median(figures.get("step_flops")), _median(figures.get("mfu"))
    on_gpu = record.device.startswith("cuda")
    gib, host_mib = _median(figures.get("peak_device_memory")), _median(figures.get("peak_host_memory"))
    return Steps(
        record=record.name,
        machine=record.environment.machine,
        device=record.environment.gpu or "GPU" if on_gpu else "CPU",
        recipe=one,
        seconds=seconds,
        idle=max(0.0, 1 - real / alone) if real and alone else None,
        views=views,
        gpus=int(on_gpu),
        precision=one.precision,
        memory_gib=gib if gib is not None else (host_mib or 0) * MIB / 2**30,
        flops=flops,
        mfu=None if share is None else share / 100,
        joules=joules_a_view * views if joules_a_view else None,
    )


def _median(figure: Figure | None) -> float | None:
    return figure.median if figure and figure.samples else None
