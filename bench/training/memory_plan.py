"""How much memory a training will take, before it takes it: `twoview plan`.

A step is run on fake tensors, which have shapes and no values, at the full batch; every storage is counted from the
operation that makes it to the moment it dies. What no tensor shows (workspaces, libraries, the loader's kernels, the
holes that a process' allocator leaves) is measured by a trial of a few real steps in a process of its own, at a small
batch. Not in it are the pages of the beton file, which the system keeps and gives back as it likes.
"""

import math
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

from twoview.bench.config import experiment
from twoview.bench.config.recipe import Recipe, parse
from twoview.bench.measurement.memory import GIB, MIB, Holdings, PeakMemory, bytes_of, held_by, host_mib, split
from twoview.bench.runtime import processes
from twoview.loaders import beton
from twoview.loaders.limits import BATCH
from twoview.loaders.loader import BATCHES_AHEAD, Loader
from twoview.methods import optim, precision
from twoview.methods.device_batches import DeviceBatch, on_device
from twoview.methods.method import Method
from twoview.methods.trainer import Trainer

TRIAL_STEPS = 12  # a heap's holes come and go, and a training meets the worst of them
TRIAL_FLOPS = 3e12  # of all steps of a trial: half a minute on two cores; fewer show too few of the holes
SMALLEST = 4  # images: a batch that takes hardly any memory
STEP = 8  # batches that are proposed are multiples of it
MMAP_THRESHOLD = 32 * MIB  # glibc gives larger blocks back at once; smaller ones share a heap, which gets holes


@dataclass(frozen=True)
class Overhead:
    """What a process takes beyond its tensors: bytes, and a share of those that live in the allocator's heap."""

    fixed: float
    share: float


class Traced(NamedTuple):
    """holdings: at the peak of all living storages, in bytes. heap: the peak of those that are small enough for it.

    flops: of a step.
    """

    holdings: Holdings
    heap: int
    flops: int

    def peak(self, overhead: Overhead) -> float:
        return sum(self.holdings) + overhead.fixed + overhead.share * self.heap


@dataclass(frozen=True)
class Plan:
    """A prediction. All sizes are bytes. overhead: what no tensor shows. fits: the largest batch in `memory`, if asked.

    peak: of the GPU's memory as torch allocates it; on a CPU of the process' resident memory, above what it takes
    before the method is built.
    """

    name: str
    device: str
    precision: str
    batch: int
    views: int
    size: int
    holdings: Holdings
    overhead: int
    peak: int
    memory: int | None = None
    fits: int | None = None

    def as_result(self) -> dict[str, Any]:
        return {**asdict(self), "holdings": self.holdings._asdict()}

    @property
    def text(self) -> str:
        rows = {**self.holdings._asdict(), "overhead": self.overhead, "peak": self.peak}
        lines = [f"{name:12}{size / MIB:10,.1f} MiB {size / self.peak:6.1%}" for name, size in rows.items()]
        shape = f"batch {self.batch}, {self.views} views at {self.size} px"
        lines.insert(0, f"{self.name}: {shape}, {self.precision} on {self.device}")
        if self.memory is not None:
            fits = f"a batch of {self.fits} fits" if self.fits else f"not even a batch of {STEP} fits"
            lines.append(f"{fits} into {self.memory / GIB:g} GiB")
        return "\n".join(lines)


def plan(recipe: Recipe[Any], memory_gib: float | None = None) -> Plan:
    """Predicts the peak memory of the recipe's training on this machine; with `memory_gib`, the batch that fits, too.

    ValueError for memory that is not above 0.
    """
    if memory_gib is not None and not 0 < memory_gib < math.inf:
        raise ValueError(f"--memory must be above 0 GiB, not {memory_gib}")
    device = experiment.best_device()
    kind = experiment.precision_for(recipe, device)
    overhead = _overhead(recipe, device, kind)
    whole = _plan(recipe, device, kind, overhead)
    if memory_gib is None:
        return whole
    memory = round(memory_gib * GIB)

    def fit(batch: int) -> bool:
        return batch <= BATCH.value and _traced(recipe, batch, device, kind).peak(overhead) <= memory

    fits = largest(fit, recipe.batch)
    return replace(whole, memory=memory, fits=fits)


def counted(recipe: Recipe[Any], device: torch.device, kind: precision.Precision, memory: int) -> Plan:
    """The plan without a trial: what tensors hold, and the largest batch, up to the recipe's, of which they would fit
    into `memory` bytes.
    """
    nothing = Overhead(0.0, 0.0)
    whole = _plan(recipe, device, kind, nothing)
    fits = recipe.batch
    if whole.peak > memory:
        fits = largest(
            lambda batch: batch < fits and _traced(recipe, batch, device, kind).peak(nothing) <= memory, fits
        )
    return replace(whole, memory=memory, fits=fits)


def _plan(recipe: Recipe[Any], device: torch.device, kind: precision.Precision, overhead: Overhead) -> Plan:
    whole = _traced(recipe, recipe.batch, device, kind)
    peak = round(whole.peak(overhead))
    return Plan(
        name=recipe.name,
        device=str(device),
        precision=kind,
        batch=recipe.batch,
        views=len(experiment.views_of(recipe)),
        size=recipe.size,
        holdings=whole.holdings,
        overhead=peak - sum(whole.holdings),
        peak=peak,
    )


def largest(fits: Callable[[int], bool], near: int) -> int:
    """The largest multiple of 8 that fits, looked for from `near` on; 0 if 8 does not. What is larger fits less."""
    high = max(STEP, near - near % STEP)
    while fits(high):
        high *= 2
    return STEP * (bisect_right(range(STEP, high, STEP), False, key=lambda batch: not fits(batch)))


def _traced(recipe: Recipe[Any], batch: int, device: torch.device, kind: precision.Precision) -> Traced:
    return trace(recipe.model_copy(update={"batch": batch}), device, kind)


def trace(recipe: Recipe[Any], device: torch.device, kind: precision.Precision) -> Traced:
    """The memory of two steps at the recipe's batch, without running them."""
    from torch.utils.flop_counter import FlopCounterMode  # here, for it imports triton

    trainer = _trainer(recipe, device, kind)
    fake = FakeTensorMode()
    for tensors in _tables(trainer.objective):
        for name, tensor in tensors.items():
            tensors[name] = None if tensor is None else fake.from_tensor(tensor)
    trainer.scaler = torch.amp.GradScaler(device.type, enabled=False)  # it would look at values
    living = _Living(trainer.method)
    with FlopCounterMode(display=False) as counter, fake, living:
        trainer.optimizer = optim.build(recipe.optim, trainer.method)
        for tensor in [*trainer.objective.parameters(), *trainer.objective.buffers()]:
            living.see(tensor)
        batch = _batch(recipe, trainer.method, device)
        for _ in range(2):  # the second finds the optimizer's state
            trainer.step(batch, 0.0)
        held = held_by(trainer.method, trainer.optimizer)._replace(gradients=living.gradients)
        normalized = [torch.empty(view.shape, device=device) for view in batch.views]
        holdings = split(living.peak, held, batch.tensors, normalized)
        if device.type == "cpu":  # the loader's batches are in the same memory: those ahead, and the next
            more = (BATCHES_AHEAD + 1) * bytes_of(batch.tensors)
            holdings = holdings._replace(batch=holdings.batch + more)
    return Traced(holdings, living.heap_peak if device.type == "cpu" else 0, counter.get_total_flops() // 2)


def trial(recipe: Recipe[Any], device: torch.device, kind: precision.Precision) -> float:
    """Peak bytes of a few real steps at the recipe's batch, above what there was before; for a process of its own."""
    side, count = recipe.size, recipe.batch * TRIAL_STEPS
    image = beton.Stored(beton.RAW, side, side, bytes(3 * side * side), label=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.beton"
        for _ in beton.write(path, recipe.batch, lambda _: image):
            pass
        before = host_mib("VmRSS")
        peak = PeakMemory()
        trainer = _trainer(recipe, device, kind)
        indices = np.arange(count) % recipe.batch
        file = beton.open_beton(path)
        pin = device.type == "cuda"
        method = trainer.method
        with Loader(file, method.views, recipe.batch, masks=method.masks, indices=indices, pin=pin) as loader:
            for batch in on_device(loader.epoch(0), device):
                trainer.step(batch, 0.0)
        return MIB * (peak.host_mib - before if peak.device_mib is None else peak.device_mib)


def _trainer(recipe: Recipe[Any], device: torch.device, kind: precision.Precision) -> Trainer:
    """Of one process, and not compiled: a compiler fuses what the plan counts one by one."""
    plain = {"compile": "off", "cuda_graph": False, "sync_batchnorm": False}
    return experiment.trainer(recipe.model_copy(update=plain), device, kind)


def _batch(recipe: Recipe[Any], method: Method, device: torch.device) -> DeviceBatch:
    """uint8 views, channels-last, labels and masks, as the loader hands them over."""
    shapes = [(recipe.batch, view.size, view.size, 3) for view in method.views]
    views = tuple(torch.ones(shape, dtype=torch.uint8, device=device).permute(0, 3, 1, 2) for shape in shapes)
    masks = tuple(torch.arange(mask.kept, device=device).repeat(recipe.batch, 1) for mask in method.masks)
    return DeviceBatch(views, torch.zeros(recipe.batch, dtype=torch.int64, device=device), masks)


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that are alive, and of those in the heap, and remembers their peaks."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parameters = list(method.parameters())
        self._seen = WeakIdKeyDictionary()
        self._now = self._heap = self.peak = self.heap_peak = self.gradients = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            return True  # a look at a value, as in a check for NaN: there are no values here, and the check passes
        out = function(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self.see(value)
        return out

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        self._seen[storage] = True
        size = storage.nbytes()
        self._add(size, 1)
        weakref.finalize(storage, self._add, size, -1)
        if self._now > self.peak:
            self.peak = self._now
            self.gradients = bytes_of(p.grad for p in self._parameters if p.grad is not None)

    def _add(self, size: int, sign: int) -> None:
        self._now += sign * size
        if size < MMAP_THRESHOLD:
            self._heap += sign * size
            self.heap_peak = max(self.heap_peak, self._heap)


def _overhead(recipe: Recipe[Any], device: torch.device, kind: precision.Precision) -> Overhead:
    """Trials at the smallest batch, for what is fixed, and at the largest of few seconds, for what grows with the
    heap: its holes grow faster than it does, so a small batch says little of a large one.
    """
    smallest = min(SMALLEST, recipe.batch)
    flops = _traced(recipe, smallest, device, kind).flops
    affordable = int(TRIAL_FLOPS * smallest / (TRIAL_STEPS * flops))
    small = min(recipe.batch, max(smallest, affordable))

    def beyond(batch: int) -> float:
        peak = trial_apart(recipe.model_copy(update={"batch": batch}), device, kind)
        return peak - sum(_traced(recipe, batch, device, kind).holdings)

    if device.type == "cuda" or small == smallest:
        return Overhead(beyond(small), 0.0)
    fixed = beyond(smallest)
    return Overhead(fixed, max(0.0, (beyond(small) - fixed) / _traced(recipe, small, device, kind).heap))


def trial_apart(recipe: Recipe[Any], device: torch.device, kind: precision.Precision) -> float:
    """The trial in a process that has imported nothing before it counts. ValueError, saying why, where it failed."""
    job = recipe.model_dump(mode="json"), device, kind
    try:
        return float(processes.run(_trial, job))
    except Exception as error:  # whatever a step raises, or its process died
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{recipe.name}: a trial step at batch {recipe.batch} failed: {reason}") from None


def _trial(job: tuple[dict[str, Any], torch.device, precision.Precision]) -> float:
    import torchvision.models  # noqa: F401  # loaded before memory is counted

    values, device, kind = job
    return trial(parse(values, values["name"]), device, kind)


def _tables(*modules: nn.Module) -> Iterator[dict[str, Any]]:
    for module in modules:
        for part in module.modules():
            yield part._parameters
            yield part._buffers
