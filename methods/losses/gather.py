"""A batch that is spread over the ranks of torch.distributed, as one.

Every loss takes its local rows against the columns of all ranks. The mean of the ranks' values is then the value of
one process on the joined batch. `gather` sums the gradients that all ranks have for an embedding, and
DistributedDataParallel averages those of the weights; together that is exactly the gradient of the one process.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if _spread() else 1


def gather(z: Tensor) -> Tensor:
    """(B, ...) of every rank -> (W * B, ...), rank after rank, differentiable. Every rank must hold the same B."""
    if not _spread():
        return z
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(z))


def rank_offset(batch: int) -> int:
    """Where this rank's rows start in what `gather` returns, if each rank holds `batch`."""
    return dist.get_rank() * batch if _spread() else 0


def _spread() -> bool:
    return dist.is_available() and dist.is_initialized()
