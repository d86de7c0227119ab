"""Peak memory of this process and of its GPU, and what of it is what."""

import contextlib
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

PROC = Path("/proc/self")
GIB = 2**30
MIB = 2**20


class PeakMemory:
    """Peaks between construction and reading: `host_mib` resident, `device_mib` allocated by torch (None: no GPU).

    The host peak is Linux's VmHWM, which writing 5 to clear_refs resets to what is resident now (proc(5)). A kernel
    that stands in for Linux's may have neither: it is then the peak since the process began.
    `device_reserved_mib` counts what torch's allocator took from the GPU, in use or not: what no one else can have.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            (PROC / "clear_refs").write_text("5")
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # before, a reset is an error
            torch.cuda.reset_peak_memory_stats()

    @property
    def host_mib(self) -> float:
        return host_mib("VmHWM")

    @property
    def device_mib(self) -> float | None:
        return torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else None

    @property
    def device_reserved_mib(self) -> float | None:
        return torch.cuda.max_memory_reserved() / MIB if torch.cuda.is_available() else None


def host_mib(line: str) -> float:
    """Of this process: VmRSS, resident now, or VmHWM, at its peak."""
    for text in (PROC / "status").read_text().splitlines():
        if text.startswith(f"{line}:"):
            return int(text.split()[1]) / 1024
    if line == "VmHWM":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    raise OSError(f"{PROC / 'status'} has no line {line}")


class Holdings(NamedTuple):
    """Who holds how many bytes at the peak of a training step.

    weights: what is trained. averages: parameters that no gradient reaches, as of a target network. buffers: running
    statistics, queues, prototypes. optimizer: its state. gradients: of the weights. batch: the uint8 views and labels.
    views: the same views normalized. activations: the rest, which are mostly what the backward pass needs.
    """

    weights: int = 0
    averages: int = 0
    buffers: int = 0
    optimizer: int = 0
    gradients: int = 0
    batch: int = 0
    views: int = 0
    activations: int = 0


def held_by(method: nn.Module, optimizer: torch.optim.Optimizer) -> Holdings:
    """What a method and its optimizer hold now, each storage counted once."""
    parameters = list(method.parameters())
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    return Holdings(
        weights=bytes_of(p for p in parameters if p.requires_grad),
        averages=bytes_of(p for p in parameters if not p.requires_grad),
        buffers=bytes_of(method.buffers()),
        optimizer=bytes_of(state),
        gradients=bytes_of(p.grad for p in parameters if p.grad is not None),
    )


def split(peak: int, held: Holdings, batch: Iterable[Tensor], views: Iterable[Tensor]) -> Holdings:
    """A measured peak in bytes, split into what is counted and the activations, which are the rest."""
    counted = held._replace(batch=bytes_of(batch), views=bytes_of(views), activations=0)
    return counted._replace(activations=max(0, peak - sum(counted)))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of the storages behind the tensors, each counted once however many tensors look at it."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
