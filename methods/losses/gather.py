"""A batch that is spread over the ranks of torch.distributed, as one.

Every loss takes its local rows against the columns of all ranks. The mean of the ranks' values is then the value of
one process on the joined batch. `gather` sums the gradients that all ranks have for an embedding, and
DistributedDataParallel averages those of the weights; together that is exactly the gradient of the one process.
"""

from torch import Tensor

from twoview.methods.ranks import OfAllRanks, rank, world


def gather(z: Tensor) -> Tensor:
    """(B, ...) of every rank -> (W * B, ...), rank after rank, differentiable. Every rank must hold the same B."""
    gathered: Tensor = z if world() == 1 else OfAllRanks.apply(z)
    return gathered


def rank_offset(batch: int) -> int:
    """Where this rank's rows start in what `gather` returns, if each rank holds `batch`."""
    return rank() * batch
