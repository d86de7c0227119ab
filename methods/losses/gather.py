"""Treat a batch that is spread over the ranks of torch.distributed as one joined batch.

Every loss compares its rank's own rows with the columns of all ranks. The mean of the loss over the ranks is then the
loss that one process would compute on the joined batch. In the backward pass `gather` sums the gradients that all ranks
have for an embedding, and DistributedDataParallel averages the gradients of the weights; together they give exactly the
gradient of that one process.
"""

from torch import Tensor

from twoview.methods.ranks import OfAllRanks, rank, world


def gather(z: Tensor) -> Tensor:
    """Concatenate the (B, ...) tensors of all W ranks to (W * B, ...), in the order of the ranks; differentiable.

    Every rank must call it with the same shape. With one process it returns z.
    """
    gathered: Tensor = z if world() == 1 else OfAllRanks.apply(z)
    return gathered


def rank_offset(batch: int) -> int:
    """Return the index of this rank's first row in the result of `gather`, where each rank holds `batch` rows."""
    return rank() * batch
