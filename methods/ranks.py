"""This process among those that torchrun started: the group, who is who, and what all of them agree on."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=10)  # for the slowest thing that ranks wait for: the first one converting a dataset

_on_host: Any = None  # a gloo group for what all ranks agree on, so that no GPU is waited for
_alone = False


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Joins the ranks that torchrun's environment names; without it there is one process and no group. Trainers must be
    made and dropped within the block.

    After an error the group is left as it is: to take it apart would mean to wait for ranks that may be gone.
    """
    global _on_host
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    _on_host = dist.new_group(backend="gloo", timeout=TIMEOUT) if device.type == "cuda" else dist.group.WORLD
    yield
    # A trainer is in reference cycles, and one that is left holds the group: its threads would then end with Python,
    # which aborts the process.
    gc.collect()
    dist.barrier(_on_host)
    dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if _grouped() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _grouped() else 1


def _grouped() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized()


@contextmanager
def alone() -> Iterator[None]:
    """In the block this process counts as the only one and waits for no other: they may be gone, or busy elsewhere."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def any_rank(flag: bool) -> bool:
    """Whether the flag is up on any rank; every rank must ask."""
    if world() == 1:
        return flag
    flags = torch.tensor([int(flag)])
    dist.all_reduce(flags, dist.ReduceOp.MAX, _on_host)
    return bool(flags.item())


def gather_objects(mine: Any) -> list[Any]:
    """Every rank's value, rank after rank; every rank must ask."""
    if world() == 1:
        return [mine]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, mine, _on_host)
    return values


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of every rank's values, on every rank; every rank must ask."""
    if world() > 1:
        dist.all_reduce(values)
        values /= world()
    return values


class SumOverRanks(torch.autograd.Function):
    """x -> its sum over the ranks, on every rank; backwards the gradients of all ranks are summed alike."""

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
    """(B, ...) of each rank, of equal shapes -> (W * B, ...), rank after rank; backwards each rank's rows get the sum
    of the gradients that all ranks have for them.
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
    """Runs the block on rank 0, then on the others: for files that one process makes and all read."""
    if rank() > 0:
        dist.barrier(_on_host)
    yield
    if rank() == 0 and world() > 1:
        dist.barrier(_on_host)
