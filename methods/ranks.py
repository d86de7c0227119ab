"""The ranks, which are the processes that torchrun started: their process group, and what they exchange."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=10)  # long enough for the slowest wait: while the first rank converts a dataset

_on_host: Any = None  # a gloo group for values on the host, so that exchanging them waits for no GPU
_alone = False  # whether the code runs within `alone`


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group that torchrun's environment variables describe, and leave it at the end of the block.

    Without these variables there is one process and no group. Trainers must be made and dropped within the block. After
    an error the group is not destroyed, because that would wait for ranks that may be gone.
    """
    global _on_host
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    _on_host = dist.new_group(backend="gloo", timeout=TIMEOUT) if device.type == "cuda" else dist.group.WORLD
    yield
    # A trainer is part of reference cycles, and as long as it exists it keeps the group alive. The group's threads
    # would then end only with Python itself, which aborts the process.
    gc.collect()
    dist.barrier(_on_host)
    dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process among the ranks; 0 if there is one process."""
    return dist.get_rank() if _grouped() else 0


def world() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if _grouped() else 1


def _grouped() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized()


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this process counts as the only one. It waits for no other, which may be gone or busy."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def any_rank(flag: bool) -> bool:
    """Return whether the flag is true on any rank. Every rank must call it."""
    if world() == 1:
        return flag
    flags = torch.tensor([int(flag)])
    dist.all_reduce(flags, dist.ReduceOp.MAX, _on_host)
    return bool(flags.item())


def gather_objects(mine: Any) -> list[Any]:
    """Return the object `mine` of every rank, in rank order, on every rank.

    Every rank must call this, with an object that can be pickled.
    """
    if world() == 1:
        return [mine]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, mine, _on_host)
    return values


def mean_over_ranks(values: Tensor) -> Tensor:
    """Return the mean of the values over the ranks, on every rank. It works in place. Every rank must call it."""
    if world() > 1:
        dist.all_reduce(values)
        values /= world()
    return values


class SumOverRanks(torch.autograd.Function):
    """x -> its sum over the ranks, on every rank. The backward pass sums the gradients of all ranks in the same way."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class OfAllRanks(torch.autograd.Function):
    """Concatenation over W ranks: (B, ...) of each, of equal shapes -> (W * B, ...), in the order of the ranks.

    In the backward pass each rank gets, for its own rows, the sum of the gradients that all ranks have for them.
    """

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        gathered = x.new_empty(world() * len(x), *x.shape[1:])
        dist.all_gather_into_tensor(gathered, x.contiguous())
        return gathered

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        joined = gradients[0].contiguous()
        mine = joined.new_empty(len(joined) // world(), *joined.shape[1:])
        dist.reduce_scatter_tensor(mine, joined)
        return mine


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Run the block on rank 0 first and then on the others, for files that one process makes and all read."""
    if rank() > 0:
        dist.barrier(_on_host)
    yield
    if rank() == 0 and world() > 1:
        dist.barrier(_on_host)
