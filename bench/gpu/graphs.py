"""The whole step as one CUDA graph: whether every method loses what its plain step loses, and what a graph saves."""

import math
import statistics

import numpy as np

from bench.evidence import DeviceFigures, Figure
from bench.gpu.scale import CIFAR, HEADLINE, Context, Skipped
from bench.gpu.stepping import peaks, resident_batch, stepped
from bench.gpu.steps import recipe_of
from bench.memory import PeakMemory
from bench.recipe import Recipe
from methods.graph import WARMUP
from methods.registry import METHODS
from methods.trainer import Trainer

NAME = "gpu-graph"
REPLAYS = 5  # of each method
OFF = 1e-3  # relative, in float32, after kernels that add up in any order
# What a graph should save is the host's time for a launch, most where kernels are short.
STEPS = ((CIFAR, "off"), (CIFAR, "default"), (HEADLINE, "off"))


def measure(context: Context) -> DeviceFigures:
    """Losses of the recorded step beside the plain one's, for every method; then step times, plain and recorded."""
    scale = context.scale
    figures = [figure for method in METHODS for figure in _losses(context, method)]
    for name, compile in STEPS:
        for recorded in (False, True):
            one = scale.recipe(name, {"compile": compile, "cuda_graph": recorded})
            kind = "recorded" if recorded else "plain"
            work = f"{one.method.name}, {one.backbone.name} at {one.size}, batch {one.batch}, compile {compile}, {kind}"
            trainer = _trainer(context, one)
            batch, memory = resident_batch(one, trainer), PeakMemory()
            seconds = stepped(trainer, batch, scale.warmup + WARMUP, scale.steps).step_seconds
            rate = one.batch * len(trainer.method.views) / statistics.median(seconds)
            figures += [
                Figure(work=work, figure="step", unit="ms", samples=[1000 * second for second in seconds]),
                Figure(work=work, figure="rate", unit="views/s", samples=[rate]),
                *peaks(memory, work),
            ]
    return DeviceFigures(name=NAME, device=scale.device, figures=figures)


def _losses(context: Context, method: str) -> list[Figure]:
    """How far the recorded step's losses are from the plain one's, at most, of two batches in turn; not a number, which
    is off, where the step cannot be recorded.
    """
    scale = context.scale
    one = recipe_of(scale, method, max(2, scale.step_batch // 8)).model_copy(update={"precision": "fp32"})
    losses, note = [], ""
    for recorded in (False, True):
        trainer = _trainer(context, one.model_copy(update={"cuda_graph": recorded}))
        views, label = resident_batch(one, trainer)
        turned = tuple(view.flip(0) for view in views), label.flip(0)
        batches = [(views, label), turned] * (WARMUP + REPLAYS)
        try:
            losses.append([
                trainer.step(*batch, number / 20)["loss"].item()
                for number, batch in enumerate(batches[: WARMUP + REPLAYS])
            ])  # fmt: skip
        except ValueError as reason:  # of the recording; the other methods can still be recorded
            losses.append([math.nan] * (WARMUP + REPLAYS))
            note = str(reason)
    plain, replayed = np.array(losses)
    off = float(np.max(abs(plain - replayed) / np.maximum(abs(plain), 1e-12)))  # NaN if one of them is
    work = f"{method}, {one.backbone.name} at {one.size}, batch {one.batch}"
    return [Figure(work=work, figure="recorded loss off", unit="x", samples=[off], note=note, tolerance=OFF)]


def _trainer(context: Context, one: Recipe) -> Trainer:
    """Skipped where a step cannot be recorded."""
    try:
        return context.scale.trainer(one)
    except ValueError as reason:
        raise Skipped(str(reason)) from None
