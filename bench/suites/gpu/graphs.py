"""A whole training step as one CUDA graph: whether its losses equal the plain step's, and how much time it saves."""

import statistics
from collections.abc import Iterator

import torch

from twoview.bench.config.recipe import Recipe
from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.measurement.memory import PeakMemory
from twoview.bench.suites.gpu.scale import CIFAR, Context
from twoview.bench.suites.gpu.steps import recipe_of
from twoview.bench.training.steps import peaks, resident_batch, stepped
from twoview.methods import determinism
from twoview.methods.device_batches import map_tensors
from twoview.methods.graph import WARMUP
from twoview.methods.trainer import Trainer

NAME = "gpu-cifar10-step"
REPLAYS = 5  # times that each method's graph is replayed
OFF = 1e-3  # smallest tolerance of a loss, relative, in float32
NOISE = 10  # the tolerance in differences of two plain training runs, whose kernels may add in any order
# A graph should save the time in which the host launches kernels, which matters most where kernels are short.
KINDS = (("off", False), ("default", False), ("off", True), ("default", True))  # (compile, recorded)


def name_of(method: str) -> str:
    """Return the name of the evidence record about a method's CUDA graph."""
    return f"gpu-graph-{method}"


def measure_cifar(context: Context) -> Iterator[DeviceFigures]:
    """Measure the milliseconds of the CIFAR-10 recipe's step: plain and recorded as a graph, eager and compiled.

    The batch stays on the device.
    """
    scale = context.scale
    record = DeviceFigures(name=NAME, device=scale.device, figures=[])
    for compile, recorded in KINDS:
        one = scale.recipe(CIFAR, compile=compile, cuda_graph=recorded)
        kind = f"{'recorded' if recorded else 'plain'}, {'eager' if compile == 'off' else 'compiled'}"
        work = f"{one.method.name}, {one.backbone.name} at {one.size}, batch {one.batch}, {kind}"
        try:
            trainer = scale.trainer(one)
            batch, memory = resident_batch(one, trainer), PeakMemory()
            seconds = stepped(trainer, batch, scale.warmup + WARMUP, scale.steps).step_seconds
        except ValueError as reason:  # this device cannot record graphs, or not this step
            record = record.plus(Figure(work=work, quantity="step_time", samples=[], note=str(reason)))
            continue
        rate = one.batch * len(trainer.method.views) / statistics.median(seconds)
        record = record.plus(
            Figure(work=work, quantity="step_time", samples=[1000 * second for second in seconds]),
            Figure(work=work, quantity="step_rate", samples=[rate]),
            *peaks(memory, work),
        )
        yield record
    yield record


def measure_method(context: Context, method: str) -> Iterator[DeviceFigures]:
    """Measure how far the losses of a method's recorded step are from its plain step's, on two batches in turn.

    The steps use float32 without TF32 and deterministic kernels where there are any, because rounding differences grow
    to a hundredth of SimCLR's loss within these few steps. Two plain training runs also differ if a kernel adds in any
    order, so the tolerance is NOISE times their difference, and at least OFF. If the step cannot be recorded, the
    sample is NaN, which exceeds any tolerance. On a device that cannot record graphs there is no sample, and the note
    says why.
    """
    scale = context.scale
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    one = recipe_of(scale, method, max(2, scale.step_batch // 8), precision="fp32")
    work = f"{method}, {one.backbone.name} at {one.size}, batch {one.batch}"
    plain, again = (_losses(one, scale.trainer(one)) for _ in range(2))
    noise = _apart(plain, again)
    figure = Figure(work=work, quantity="loss_repeat_difference", samples=[noise])
    record = DeviceFigures(name=name_of(method), device=scale.device, figures=[figure])
    yield record
    samples, note = [], ""
    try:
        trainer = scale.trainer(one.model_copy(update={"cuda_graph": True}))
    except ValueError as reason:
        note = str(reason)
    else:
        try:
            samples = [_apart(plain, _losses(one, trainer))]
        except ValueError as reason:
            samples, note = [float("nan")], str(reason)
    tolerance = max(OFF, NOISE * noise)
    yield record.plus(
        Figure(work=work, quantity="recorded_loss_difference", samples=samples, note=note, tolerance=tolerance)
    )


def _losses(one: Recipe, trainer: Trainer) -> torch.Tensor:
    """Return the losses of two batches in turn, float64 (WARMUP + REPLAYS,). The second is the first in reverse."""
    batch = resident_batch(one, trainer)
    turned = map_tensors(batch, lambda tensor: tensor.flip(0))
    determinism.set_deterministic(True, strict=False)
    try:
        losses = [
            trainer.step(turned if number % 2 else batch, number / 20)["loss"] for number in range(WARMUP + REPLAYS)
        ]
    finally:
        determinism.set_deterministic(one.deterministic)
    return torch.stack(losses).cpu().double()


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest relative difference of two series of losses; NaN if one of the losses is NaN."""
    return float(((one - other).abs() / one.abs().clamp_min(1e-12)).max())
