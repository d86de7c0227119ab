"""Predict how much memory a training run will take, before it starts: `twoview plan`.

Steps at the full batch are run on fake tensors, which have shapes but no values, and every storage is counted from the
operation that creates it until it is freed. Memory that does not belong to a tensor (workspaces, libraries, the
loader's kernels, the holes that the process's allocator leaves) is measured by a trial: a few real steps at a small
batch in a process of its own. The pages of the beton file are not included, since the system caches and drops them as
it likes.
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

from twoview.bench.config import experiment, starts
from twoview.bench.config.recipe import Recipe, parse
from twoview.bench.measurement.flops import Counter
from twoview.bench.measurement.memory import GIB, MIB, Holdings, PeakMemory, bytes_of, held_by, host_mib, split
from twoview.bench.runtime import processes
from twoview.loaders import beton
from twoview.loaders.limits import BATCH
from twoview.loaders.loader import BATCHES_AHEAD, Loader
from twoview.methods import optim, precision
from twoview.methods.device_batches import DeviceBatch, on_device
from twoview.methods.method import Method
from twoview.methods.trainer import Trainer

TRIAL_STEPS = 12  # the holes of a heap come and go; a training run has enough steps to meet the worst case
TRIAL_FLOPS = 3e12  # of all steps of a trial, half a minute on two cores; shorter trials show too few of the holes
SMALLEST = 4  # batch, in images, that takes hardly any memory
STEP = 8  # proposed batches are multiples of this and of the recipe's `accumulate`
TIMES = (2, 4, 8, 16)  # the proposed `accumulate`, relative to the recipe's
# Size of a block in bytes: glibc returns larger ones to the system at once, while smaller ones share a heap, which gets
# holes.
MMAP_THRESHOLD = 32 * MIB


@dataclass(frozen=True)
class Overhead:
    """The memory that a process takes beyond its tensors.

    fixed: bytes. share: additional bytes, as a share of the tensors' bytes in the allocator's heap.
    """

    fixed: float
    share: float


class Traced(NamedTuple):
    """The result of steps on fake tensors.

    holdings: the uses of the memory when all living storages together are at their peak, in bytes.
    heap: peak bytes of the storages that are small enough for the allocator's heap; 0 on a GPU.
    flops: floating-point operations of a step.
    """

    holdings: Holdings
    heap: int
    flops: int

    def peak(self, overhead: Overhead) -> float:
        """Return the predicted peak in bytes: all holdings, and the overhead beyond the tensors."""
        return sum(self.holdings) + overhead.fixed + overhead.share * self.heap


@dataclass(frozen=True)
class Plan:
    """A prediction. All sizes are in bytes.

    batch: images per batch. accumulate: parts of a batch. views: views per image. size: side of a view, in pixels.
    holdings: the uses of the memory. overhead: memory that does not belong to a tensor.
    peak: peak GPU memory that torch allocates; on a CPU the peak resident memory of the process minus its memory before
    the method is built.
    memory: the memory limit, if one was given. fits: the largest batch that fits into it, 0 if none does.
    parts: the smallest `accumulate` with which the batch fits, if it does not with the recipe's and one was found.
    """

    name: str
    device: str
    precision: str
    batch: int
    accumulate: int
    views: int
    size: int
    holdings: Holdings
    overhead: int
    peak: int
    memory: int | None = None
    fits: int | None = None
    parts: int | None = None

    def as_result(self) -> dict[str, Any]:
        """Return the plan as a dictionary for JSON."""
        return {**asdict(self), "holdings": self.holdings._asdict()}

    @property
    def text(self) -> str:
        """The plan for a reader: one line per use of the memory."""
        rows = {**self.holdings._asdict(), "overhead": self.overhead, "peak": self.peak}
        lines = [f"{name:12}{size / MIB:10,.1f} MiB {size / self.peak:6.1%}" for name, size in rows.items()]
        parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
        shape = f"batch {self.batch}{parts}, {self.views} views at {self.size} px"
        lines.insert(0, f"{self.name}: {shape}, {self.precision} on {self.device}")
        if self.memory is not None:
            fits = f"a batch of {self.fits} fits" if self.fits else f"not even a batch of {self.step} fits"
            parts = f", or a batch of {self.batch} with accumulate {self.parts}" if self.parts else ""
            lines.append(f"{fits} in {self.memory / GIB:g} GiB{parts}")
        return "\n".join(lines)

    @property
    def step(self) -> int:
        """The number of which every proposed batch is a multiple."""
        return math.lcm(STEP, self.accumulate)


def plan(recipe: Recipe[Any], memory_gib: float | None = None) -> Plan:
    """Predict the peak memory of training the recipe on this machine.

    memory_gib: if given, the plan also gives the largest batch that fits into this memory.
    Raises ValueError if memory_gib is not a finite number above 0.
    """
    if memory_gib is not None and not 0 < memory_gib < math.inf:
        raise ValueError(f"--memory must be above 0 GiB, got {memory_gib}")
    device = experiment.best_device()
    kind = experiment.precision_for(recipe, device)
    overhead = _overhead(recipe, device, kind)
    whole = _plan(recipe, device, kind, overhead)
    if memory_gib is None:
        return whole
    memory = round(memory_gib * GIB)

    def fit(batch: int) -> bool:
        return batch <= BATCH.value and _traced(recipe, batch, device, kind).peak(overhead) <= memory

    fits = largest(fit, recipe.batch, whole.step)
    parts = _parts(recipe, device, kind, overhead, memory) if whole.peak > memory else None
    return replace(whole, memory=memory, fits=fits, parts=parts)


def counted(recipe: Recipe[Any], device: torch.device, kind: precision.Precision, memory: int) -> Plan:
    """Return a plan that counts only tensors, without a trial.

    memory: in bytes. The plan says which is the largest batch, at most the recipe's, whose tensors fit into it.
    """
    nothing = Overhead(0.0, 0.0)
    whole = _plan(recipe, device, kind, nothing)
    fits, parts = recipe.batch, None
    if whole.peak > memory:
        fits = largest(
            lambda batch: batch < recipe.batch and _traced(recipe, batch, device, kind).peak(nothing) <= memory,
            recipe.batch,
            whole.step,
        )
        parts = _parts(recipe, device, kind, nothing, memory)
    return replace(whole, memory=memory, fits=fits, parts=parts)


def _parts(
    recipe: Recipe[Any], device: torch.device, kind: precision.Precision, overhead: Overhead, memory: int
) -> int | None:
    """Return the smallest `accumulate` above the recipe's with which its batch fits into the memory; None if unknown.

    Each part has at least two images, since BatchNorm averages over them.
    """
    if recipe.cuda_graph or recipe.compile == "max-autotune":  # with which it must be 1
        return None
    for parts in (times * recipe.accumulate for times in TIMES):
        if recipe.batch % parts or recipe.batch < 2 * parts:
            break
        if trace(recipe.model_copy(update={"accumulate": parts}), device, kind).peak(overhead) <= memory:
            return parts
    return None


def _plan(recipe: Recipe[Any], device: torch.device, kind: precision.Precision, overhead: Overhead) -> Plan:
    """Return the plan at the recipe's batch. kind: the precision of training."""
    whole = _traced(recipe, recipe.batch, device, kind)
    peak = round(whole.peak(overhead))
    return Plan(
        name=recipe.name,
        device=str(device),
        precision=kind,
        batch=recipe.batch,
        accumulate=recipe.accumulate,
        views=len(experiment.views_of(recipe)),
        size=recipe.size,
        holdings=whole.holdings,
        overhead=peak - sum(whole.holdings),
        peak=peak,
    )


def largest(fits: Callable[[int], bool], near: int, step: int = STEP) -> int:
    """Return the largest multiple of `step` that fits; 0 if `step` does not.

    fits: must be monotonic: if a batch does not fit, no larger one does. near: where the search begins.
    """
    high = max(step, near - near % step)
    while fits(high):
        high *= 2
    return step * (bisect_right(range(step, high, step), False, key=lambda batch: not fits(batch)))


def _traced(recipe: Recipe[Any], batch: int, device: torch.device, kind: precision.Precision) -> Traced:
    """Return `trace` of the recipe with another batch."""
    return trace(recipe.model_copy(update={"batch": batch}), device, kind)


def trace(recipe: Recipe[Any], device: torch.device, kind: precision.Precision) -> Traced:
    """Return the memory that two steps at the recipe's batch would take, without computing them."""
    trainer = _trainer(recipe, device, kind)
    fake = FakeTensorMode()
    for tensors in _tables(trainer.objective):
        for name, tensor in tensors.items():
            tensors[name] = None if tensor is None else fake.from_tensor(tensor)
    trainer.scaler = torch.amp.GradScaler(device.type, enabled=False)  # a scaler would need values
    living = _Living(trainer.method)
    with Counter() as counter, fake, living:
        trainer.optimizer = optim.build(recipe.optim, trainer.method)
        for tensor in [*trainer.objective.parameters(), *trainer.objective.buffers()]:
            living.see(tensor)
        batch = _batch(recipe, trainer.method, device)
        for _ in range(2):  # the state of the optimizer exists only from the second step on
            trainer.step(batch, 0.0)
        held = held_by(trainer.method, trainer.optimizer)._replace(gradients=living.gradients)
        normalized = [torch.empty(view.shape, device=device) for view in batch.views]
        holdings = split(living.peak, held, batch.tensors, normalized)
        if device.type == "cpu":  # the same memory holds the loader's batches: those made ahead, and the next one
            more = (BATCHES_AHEAD + 1) * bytes_of(batch.tensors)
            holdings = holdings._replace(batch=holdings.batch + more)
    return Traced(holdings, living.heap_peak if device.type == "cpu" else 0, counter.total // 2)


def trial(recipe: Recipe[Any], device: torch.device, kind: precision.Precision) -> float:
    """Run a few real steps at the recipe's batch, and return the bytes by which the peak exceeds the memory before.

    It must run in a process of its own, since a process has one peak.
    """
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
    """Return a trainer for one process that is not compiled, since a compiler fuses operations that the plan counts."""
    plain = {"compile": "off", "cuda_graph": False, "sync_batchnorm": False}
    return experiment.trainer(starts.randomly_started(recipe).model_copy(update=plain), device, kind)


def _batch(recipe: Recipe[Any], method: Method, device: torch.device) -> DeviceBatch:
    """Return a batch as the loader makes it: uint8 views in channels-last layout, labels and masks."""
    shapes = [(recipe.batch, view.size, view.size, 3) for view in method.views]
    views = tuple(torch.ones(shape, dtype=torch.uint8, device=device).permute(0, 3, 1, 2) for shape in shapes)
    masks = tuple(torch.arange(mask.kept, device=device).repeat(recipe.batch, 1) for mask in method.masks)
    return DeviceBatch(views, torch.zeros(recipe.batch, dtype=torch.int64, device=device), masks)


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all living storages, and of those among them that are in the heap, and keeps their peaks.

    gradients: the bytes of the gradients at the peak.
    """

    def __init__(self, method: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parameters = list(method.parameters())
        self._seen = WeakIdKeyDictionary()
        self._now = self._heap = self.peak = self.heap_peak = self.gradients = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            return True  # code asks for a value, as a check for NaN does; there are none here, so let the check pass
        out = function(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self.see(value)
        return out

    def see(self, tensor: Tensor) -> None:
        """Count the tensor's storage, if it is new, until it is freed."""
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
    """Measure the overhead by trials.

    The trial at the smallest batch gives the fixed part. On a CPU, a trial at the largest batch that TRIAL_FLOPS allow
    gives the part that grows with the heap: its holes grow faster than the heap does, so a small batch tells little
    about a large one.
    """
    smallest = min(max(SMALLEST, 2 * recipe.accumulate), recipe.batch)
    flops = _traced(recipe, smallest, device, kind).flops
    affordable = int(TRIAL_FLOPS * smallest / (TRIAL_STEPS * flops)) // recipe.accumulate * recipe.accumulate
    small = min(recipe.batch, max(smallest, affordable))

    def beyond(batch: int) -> float:
        """Return the bytes that a trial takes beyond its tensors."""
        peak = trial_apart(recipe.model_copy(update={"batch": batch}), device, kind)
        return peak - sum(_traced(recipe, batch, device, kind).holdings)

    if device.type == "cuda" or small == smallest:
        return Overhead(beyond(small), 0.0)
    fixed = beyond(smallest)
    return Overhead(fixed, max(0.0, (beyond(small) - fixed) / _traced(recipe, small, device, kind).heap))


def trial_apart(recipe: Recipe[Any], device: torch.device, kind: precision.Precision) -> float:
    """Run the trial in a process of its own, which has imported nothing before it counts, and return its bytes.

    Raises ValueError, with the reason, if the trial fails.
    """
    job = recipe.model_dump(mode="json"), device, kind
    try:
        return float(processes.run(_trial, job))
    except Exception as error:  # a step may raise anything, and its process may die
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{recipe.name}: a trial step at batch {recipe.batch} failed: {reason}") from None


def _trial(job: tuple[dict[str, Any], torch.device, precision.Precision]) -> float:
    """Run the trial of a job (recipe as a dictionary, device, precision)."""
    import torchvision.models  # noqa: F401  # imported before memory is counted

    values, device, kind = job
    return trial(parse(values, values["name"]), device, kind)


def _tables(*modules: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield the dictionaries in which the modules and their parts keep their parameters and buffers."""
    for module in modules:
        for part in module.modules():
            yield part._parameters
            yield part._buffers
