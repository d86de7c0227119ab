"""The MoCo loss (momentum contrast): tell a query's own key from a queue of older keys."""

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
    """Return the mean over i of -log [K(q_i, k_i) / (K(q_i, k_i) + sum_j K(q_i, queue_j))], K = exp(-d^gamma / T).

    d is the L2 distance of unit vectors, so gamma = 2 with temperature T is MoCo's InfoNCE on cosines with tau = T / 2.

    query, key: (B, d), row i of both from image i. queue: (K, d), keys of older batches, the same on all ranks. All
    three are of any floating dtype and not normalized. Gradients also flow into key and queue if these require them,
    which in training they do not.
    temperature: T > 0. gamma: in (0, 2]. include_positive: whether K(q_i, k_i) is part of the denominator. In
    He et al. 2020 it is; in the MoCo variant of the Kernel-InfoNCE code it is not. Returns a float32 scalar.
    Source: He et al. 2020, equation 1, with the kernels of Tan et al. 2024.
    """
    checks.embeddings(query=query, key=key)
    checks.queue(queue, query.shape[1])
    checks.positive("temperature", temperature)
    checks.exponent(gamma)
    query, key, queue = unit(query), unit(key), unit(queue)
    kernel = partial(exponential, gamma=gamma, temperature=temperature)
    attract = kernel((query * key).sum(1))
    nothing = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)  # no key of the queue is skipped
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
    """Return the mixture of two losses: weight * moco at (gamma_1, T_1) + (1 - weight) * moco at (gamma_2, T_2).

    weight: in [0, 1]. See `moco` for the other arguments. Returns a float32 scalar.
    Source: loss_type "sum" in moco/moco.py of yifanzhang-pro/Kernel-InfoNCE. Its defaults are gammas (1, 2),
    temperatures (0.1, 0.3) and weight 0.2, and the positive is not in its denominator.
    """
    checks.share("weight", weight)
    one, two = (
        moco(query, key, queue, temperature, gamma, include_positive)
        for gamma, temperature in zip(gammas, temperatures, strict=True)
    )
    return weight * one + (1 - weight) * two


QUEUE = 4096  # number of keys in the queue when the loss is timed


def _at_scale(dim: int, device: torch.device) -> Loss:
    """Return the loss with a random queue, for timing."""
    queue = torch.randn(QUEUE, dim, device=device)
    return lambda query, key, label: moco(query, key.detach(), queue, 0.4)


EXAMPLES = {
    # The queue is the negated first view, so that it is the same on every device.
    "moco": Example(
        lambda z1, z2, label: moco(z1, z2.detach(), -z1.detach(), 0.4),
        at_scale=_at_scale,
        lightly=Lightly("NTXentLoss", lambda dim: {"temperature": 0.2, "memory_bank_size": (QUEUE, dim)}),
    ),
    "moco_sum": Example(lambda z1, z2, label: moco_sum(z1, z2.detach(), -z1.detach(), **MIXTURE), timed=False),
}
