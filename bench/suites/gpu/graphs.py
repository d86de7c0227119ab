"""The whole step as one CUDA graph: whether a method loses what its plain step loses, and what a graph saves."""

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
REPLAYS = 5  # of each method
OFF = 1e-3  # relative, in float32
NOISE = 10  # times the difference of two plain steps, whose kernels add up in any order
# What a graph should save is the host's time for a launch, most where kernels are short.
KINDS = (("off", False), ("default", False), ("off", True), ("default", True))  # compile, recorded


def name_of(method: str) -> str:
    return f"gpu-graph-{method}"


def measure_cifar(context: Context) -> Iterator[DeviceFigures]:
    """Milliseconds of the CIFAR-10 recipe's step, plain and recorded, eager and compiled, on a resident batch."""
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
        except ValueError as reason:  # this device records no graphs, or not of this step
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
    """How far a method's recorded step is from its plain one, in the losses of two batches in turn.

    Of float32 without TF32, by deterministic kernels where there are any: differences of rounding grow to a hundredth
    of SimCLR's loss within these few steps. Two plain trainings differ, too, where a kernel adds up in any order: the
    tolerance is NOISE times that, where it is above OFF. A step that cannot be recorded is not a number, which is off;
    on a device that records none, there is no sample, and the note says why.
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
    """float64 (WARMUP + REPLAYS,): of two batches in turn, the second being the first's images in another order."""
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
    """The largest relative difference; not a number if one of the losses is none."""
    return float(((one - other).abs() / one.abs().clamp_min(1e-12)).max())
