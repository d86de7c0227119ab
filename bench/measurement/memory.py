"""Peak memory of this process and of its GPU, and its uses."""

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
    """Peak memory between construction and reading.

    The host's peak is Linux's VmHWM, which writing 5 to clear_refs resets to the current resident memory (proc(5)). A
    substitute for the Linux kernel may have neither; the value is then the peak since the process began.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            (PROC / "clear_refs").write_text("5")
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # until then a reset is an error
            torch.cuda.reset_peak_memory_stats()

    @property
    def host_mib(self) -> float:
        """Peak resident memory of the process, in MiB."""
        return host_mib("VmHWM")

    @property
    def device_mib(self) -> float | None:
        """Peak GPU memory that torch allocated, in MiB; None without a GPU."""
        return torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else None

    @property
    def device_reserved_mib(self) -> float | None:
        """Peak GPU memory that torch's allocator took from the driver, in MiB; None without a GPU.

        This memory is unavailable to other processes, whether it is in use or not.
        """
        return torch.cuda.max_memory_reserved() / MIB if torch.cuda.is_available() else None


def host_mib(line: str) -> float:
    """Return the resident memory of this process in MiB. line: `VmRSS` for the current value, `VmHWM` for the peak."""
    for text in (PROC / "status").read_text().splitlines():
        if text.startswith(f"{line}:"):
            return int(text.split()[1]) / 1024
    if line == "VmHWM":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    raise OSError(f"{PROC / 'status'} has no line {line}")


class Holdings(NamedTuple):
    """The uses of the memory at the peak of a training step, in bytes.

    weights: trained parameters.
    averages: parameters that get no gradient, such as a target network's.
    buffers: running statistics, queues, prototypes.
    optimizer: state of the optimizer.
    gradients: gradients of the weights.
    batch: uint8 views and labels.
    views: the same views after normalization.
    activations: everything else, which is mostly what the backward pass needs.
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
    """Return the bytes that a method and its optimizer hold now, with each storage counted once."""
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
    """Split a measured peak, in bytes, into the holdings that can be counted and the activations, which are the rest.

    held: what method and optimizer hold. batch, views: the tensors of the batch, and of its normalized views.
    """
    counted = held._replace(batch=bytes_of(batch), views=bytes_of(views), activations=0)
    return counted._replace(activations=max(0, peak - sum(counted)))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the storages behind the tensors; a storage that several tensors share is counted once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
