"""Momentum contrast: a query against its key and a queue of older keys."""

from functools import partial

import torch
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example, Lightly, Loss
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.kernel import MIXTURE, exponential
from twoview.methods.losses.log_sum import mean_log_sum
from twoview.methods.losses.pairs import unit


@float32
def moco(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float, gamma: float = 2.0, include_positive: bool = True
) -> Tensor:
    """The mean over i of -log K(q_i, k_i) / (K(q_i, k_i) + sum_j K(q_i, queue_j)), K = exp(-d^gamma / T).

    d is the L2 distance of unit vectors, so gamma = 2 at T is MoCo's InfoNCE of cosines at tau = T / 2.
    include_positive: whether K(q_i, k_i) stands in the denominator, as in He et al. 2020; in the MoCo of
    Kernel-InfoNCE it does not.

    query, key: (B, d), row i of both from image i. queue: (K, d), keys of older batches, the same on all ranks. Any
    floating dtype, none normalized. Key and queue get the gradient that they ask for, in practice none.
    temperature: T > 0. gamma: in (0, 2]. Returns a float32 scalar.
    Source: He et al. 2020, equation 1, with the kernels of Tan et al. 2024.
    """
    checks.embeddings(query=query, key=key)
    checks.queue(queue, query.shape[1])
    checks.positive("temperature", temperature)
    checks.exponent(gamma)
    query, key, queue = unit(query), unit(key), unit(queue)
    kernel = partial(exponential, gamma=gamma, temperature=temperature)
    attract = kernel((query * key).sum(1))
    nothing = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)
    repel = mean_log_sum(query, queue, kernel, nothing, extra=attract if include_positive else None)
    return repel - attract.mean()


def moco_sum(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    gammas: tuple[float, float],
    temperatures: tuple[float, float],
    weight: float,
    include_positive: bool = False,
) -> Tensor:
    """The mixture of losses with two temperatures: weight * moco at (gamma_1, T_1) + (1 - weight) * moco at the other.

    Source: moco/moco.py of yifanzhang-pro/Kernel-InfoNCE, loss_type "sum", whose defaults are gammas (1, 2),
    temperatures (0.1, 0.3) and weight 0.2; the positive is not in its denominator. Arguments as in `moco`.
    """
    checks.share("weight", weight)
    one, two = (
        moco(query, key, queue, temperature, gamma, include_positive)
        for gamma, temperature in zip(gammas, temperatures, strict=True)
    )
    return weight * one + (1 - weight) * two


QUEUE = 4096  # keys, where the loss is timed


def _at_scale(dim: int, device: torch.device) -> Loss:
    queue = torch.randn(QUEUE, dim, device=device)
    return lambda query, key, label: moco(query, key.detach(), queue, 0.4)


EXAMPLES = {
    # The queue holds the first view's negatives, so that it is the same one on every device.
    "moco": Example(
        lambda z1, z2, label: moco(z1, z2.detach(), -z1.detach(), 0.4),
        at_scale=_at_scale,
        lightly=Lightly("NTXentLoss", lambda dim: {"temperature": 0.2, "memory_bank_size": (QUEUE, dim)}),
    ),
    "moco_sum": Example(lambda z1, z2, label: moco_sum(z1, z2.detach(), -z1.detach(), **MIXTURE), timed=False),
}
