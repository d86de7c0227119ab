"""Projection of the time of a whole pretraining run from measured steps, never from the rate of a loader.

A projection is epochs times steps per epoch times the median time of a steady step. Its interval is the
median's by the block bootstrap (`bench/measurement/bootstrap.py`), since the times of neighboring steps are correlated.
A projection states how many steps it is based on, and needs at least FEWEST.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twoview.bench.config import recipe
from twoview.bench.config.experiment import views_of
from twoview.bench.config.recipe import Recipe, dataset_of
from twoview.bench.evidence import AnyRecord, DeviceFigures, Figure, Run
from twoview.bench.measurement import clocks
from twoview.bench.measurement.bootstrap import LEVEL, RESAMPLES, stretches
from twoview.bench.measurement.memory import MIB

FEWEST = 30  # minimum number of steady steps for a projection
# For `clocks.steady`. On a busy machine, single steps differ by more than the tolerance, which widens the interval.
WINDOW, TOLERANCE = FEWEST // 2, 0.1
# Keys of a recipe that do not change the time of a step, or that may be chosen freely for the same result.
FREE = {"name", "dataset", "epochs", "train_images", "held_out", "long_tail", "probe", "seed", "optim", "precision"}
FREE |= {"compile", "cuda_graph", "sync_batchnorm", "deterministic", "loader_threads", "resident", "checkpoint_steps"}
FREE |= {"damaged", "classes_per_batch", "classes_per_rank", "with_replacement"}


@dataclass(frozen=True)
class Steps:
    """The measured training steps of a record.

    seconds: time of each step, without the wait for its batch. idle: share of the training time that is not spent in
    steps, mostly waits for batches; None if the model ran alone, on a batch that was already on its device. views,
    flops, joules: per step, over all devices. gpus: number of GPUs, 0 for a CPU. memory_gib: peak on each device, or of
    the process on a CPU. mfu: share of the FLOP/s that a large matrix product was measured to reach.
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
    """The projected cost of a pretraining run.

    steps: number of steps of the whole run. measured: number of steady steps that the projection is based on.
    seconds: time per step, waits included. hours: wall time of the whole run. low, high: its interval.
    """

    steps: int
    measured: int
    seconds: float
    hours: float
    low: float
    high: float


def cost_of(one: Recipe[Any]) -> str:
    """Return a text that is equal for recipes whose steps take the same time.

    It contains all settings that affect the time of a step, except the number of classes, which hardly matters.
    """
    return f"{one.model_dump_json(include=set(one.settings()) - FREE)} {one.optim.name}"


def steps_an_epoch(one: Recipe[Any]) -> int:
    """Return the number of steps per epoch. An epoch has whole batches only.

    Raises ValueError if the number of images is known only from the data, or is less than one batch.
    """
    if one.long_tail.ratio > 1:
        raise ValueError(f"{one.name}: the number of images in its long tail is known only from the data")
    images = one.train_images or (dataset_of(one).sizes["train"] or 0) - one.held_out
    if images < one.batch:
        raise ValueError(f"{one.name}: an epoch of {images} images has no full batch of {one.batch}")
    return images // one.batch


def projection(one: Recipe[Any], seconds: Sequence[float], idle: float = 0.0) -> Projection:
    """Project the recipe's pretraining from the times of measured steps.

    seconds: time of each step. idle: share of the training time that is not spent in steps.
    Raises ValueError, with the number of steady steps, if there are too few.
    """
    start = clocks.steady(seconds, WINDOW, TOLERANCE)
    steady = seconds[start:] if start is not None else []
    if len(steady) < FEWEST:
        raise ValueError(
            f"no projection: {len(steady)} of {len(seconds)} measured steps are steady, but {FEWEST} are needed"
        )
    # The interval of the median by the block bootstrap: blocks of neighboring steps are drawn with replacement.
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
    """Return the measured steps of a record; None if it has none. Raises ValueError if its recipe is not valid now."""
    if isinstance(record, Run):
        return _training_steps(record)
    if isinstance(record, DeviceFigures) and record.recipe:
        return _device_steps(record, recipe.parse(record.recipe, record.name))
    return None


def _training_steps(record: Run) -> Steps | None:
    """Return the steps of a training run."""
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
    """Return the steps in a record of `twoview suite gpu`: for a method, for a budget, or for training on JPEGs."""
    # A figure with a variant belongs to one side of a comparison, not to the recipe.
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
