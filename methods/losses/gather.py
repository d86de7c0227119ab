"""A batch that is spread over the ranks of torch.distributed, as one.

Every loss takes its local rows against the columns of all ranks. The mean of the ranks' values is then the value of
one process on the joined batch. `gather` sums the gradients that all ranks have for an embedding, and
DistributedDataParallel averages those of the weights; together that is exactly the gradient of the one process.
"""

import torch
from torch import Tensor

from methods.ranks import rank, world


def gather(z: Tensor) -> Tensor:
    """(B, ...) of every rank -> (W * B, ...), rank after rank, differentiable. Every rank must hold the same B."""
    if world() == 1:
        return z
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(z))


def rank_offset(batch: int) -> int:
    """Where this rank's rows start in what `gather` returns, if each rank holds `batch`."""
    return rank() * batch
