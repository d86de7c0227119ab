"""Kernel-InfoNCE: exponential kernels of the distance between unit vectors, and mixtures of two (Tan et al. 2024).

Sources: Tan, Zhang, Yang & Yuan, ICLR 2024; `simclr_module.py` of yifanzhang-pro/Kernel-InfoNCE ("the official code").
Temperatures follow the official code: K = exp(-d^gamma / T). Because d^2 = 2 - 2 cos, gamma = 2 with temperature T
equals NT-Xent with temperature T / 2.
The official code sums exponentials and adds 1e-6. At T <= 0.05 its sum is mostly that 1e-6, and at 0.01 its loss is
infinite. Here every sum is a log-sum-exp.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.infonce import infonce
from twoview.methods.losses.log_sum import LogKernel, mean_log_sum
from twoview.methods.losses.pairs import pairs, unit


def exponential(cosine: Tensor, gamma: float, temperature: float) -> Tensor:
    """Return log K = -d^gamma / T for unit vectors with these cosines, where d^2 = 2 - 2 cos.

    For gamma < 2 the derivative of d^gamma with respect to the cosine is unbounded at d = 0, and rounding leaves the
    squared distance of two equal vectors a few units in the last place away from 0. Squared distances of up to 16 such
    units (d < 0.0014 in float32) therefore count as exactly 0 and get no gradient. Equal vectors then have their true
    value, and no gradient is ever infinite.
    """
    if gamma == 2:
        return (cosine - 1) * (2 / temperature)
    squared = 2 - 2 * cosine
    equal = squared <= 16 * torch.finfo(cosine.dtype).eps
    # The mask is also applied before the power: otherwise the backward pass multiplies 0 by an infinite slope, a NaN.
    return squared.masked_fill(equal, 1).pow(gamma / 2).masked_fill(equal, 0) * (-1 / temperature)


def mixed(cosine: Tensor, gammas: tuple[float, float], temperatures: tuple[float, float], weight: float) -> Tensor:
    """Return log(weight K_1 + (1 - weight) K_2), the log of a mixture of two exponential kernels."""
    logs = [exponential(cosine, gamma, temperature) for gamma, temperature in zip(gammas, temperatures, strict=True)]
    shares = [math.log(share) if share else -math.inf for share in (weight, 1 - weight)]
    return torch.logaddexp(logs[0] + shares[0], logs[1] + shares[1])


@float32
def kernel_infonce(z1: Tensor, z2: Tensor, gamma: float, temperature: float) -> Tensor:
    """Return the core loss C(gamma, T), a float32 scalar: InfoNCE with one exponential kernel.

    It is the mean over all 2B embeddings of -log [K(z_i, z_i+) / sum_{k != i} K(z_i, z_k)] with K = exp(-d^gamma / T),
    where d is the L2 distance of unit vectors. gamma = 2 is the Gaussian kernel (NT-Xent at temperature T / 2),
    gamma = 1 the Laplacian kernel.

    z1, z2: (B, d), any floating dtype, not normalized. gamma: in (0, 2]. temperature: T > 0.
    Source: `gamma_loss` of the official code, which is the paper's Algorithm 2.
    """
    _check(z1, z2, (gamma,), (temperature,))
    return infonce(unit(z1), unit(z2), partial(exponential, gamma=gamma, temperature=temperature))


@float32
def kernel_sum(
    z1: Tensor, z2: Tensor, gammas: tuple[float, float], temperatures: tuple[float, float], weight: float
) -> Tensor:
    """Return the mixture of two losses, weight * C(gamma_1, T_1) + (1 - weight) * C(gamma_2, T_2).

    C is the loss of `kernel_infonce`, whose arguments these are, in pairs; weight is in [0, 1]. Returns a float32
    scalar.
    Source: loss_type "sum" of the official code, where gamma_2 is 2 and both losses share one T.
    """
    _check(z1, z2, gammas, temperatures, weight)
    kernels = [partial(exponential, gamma=g, temperature=t) for g, t in zip(gammas, temperatures, strict=True)]
    one, two = (infonce(unit(z1), unit(z2), kernel) for kernel in kernels)
    return weight * one + (1 - weight) * two


@float32
def mixed_kernel(
    z1: Tensor, z2: Tensor, gammas: tuple[float, float], temperatures: tuple[float, float], weight: float
) -> Tensor:
    """Return the InfoNCE loss of one mixed kernel, a float32 scalar.

    The kernel is K = weight * exp(-d^gamma_1 / T_1) + (1 - weight) * exp(-d^gamma_2 / T_2). This is how the formula of
    the paper's Simple Sum reads; the official code never computes it. See `kernel_sum` for the arguments.
    """
    _check(z1, z2, gammas, temperatures, weight)
    return infonce(unit(z1), unit(z2), partial(mixed, gammas=gammas, temperatures=temperatures, weight=weight))


@float32
def concat(
    z1: Tensor,
    z2: Tensor,
    gammas: tuple[float, float],
    temperatures: tuple[float, float],
    weight: float,
    joint: bool,
) -> Tensor:
    """Return the concatenation sum: one kernel on the first half of the embedding, the other on the second half.

    It is weight * C(gamma_1, T_1) of the first halves + (1 - weight) * C(gamma_2, T_2) of the second halves.
    joint: if true, the embedding is normalized as a whole, so that its halves are shorter than 1, as in the official
    code (loss_type "product", with gamma_2 = 2 and one T); if false, each half is normalized to unit length.
    See `kernel_sum` for the other arguments. Raises ValueError if the width is odd.
    """
    _check(z1, z2, gammas, temperatures, weight)
    checks.even_width(z1=z1, z2=z2)
    infonce_of_half = _infonce_of_short if joint else infonce
    whole = (unit(z1), unit(z2)) if joint else (z1, z2)
    losses = []
    for half, gamma, temperature in zip(range(2), gammas, temperatures, strict=True):
        one, two = (z.chunk(2, dim=1)[half] for z in whole)
        if not joint:
            one, two = unit(one), unit(two)
        losses.append(infonce_of_half(one, two, partial(exponential, gamma=gamma, temperature=temperature)))
    return weight * losses[0] + (1 - weight) * losses[1]


def _infonce_of_short(z1: Tensor, z2: Tensor, log_kernel: LogKernel) -> Tensor:
    """Return `infonce` for vectors that are not of unit length and a kernel of their distance d.

    Two additional coordinates turn the inner product of a row and a column into 1 - d^2 / 2, which is the cosine that
    unit vectors at the distance d would have.
    """
    rows, columns, own, _ = pairs(z1, z2)
    one = rows.new_ones(())
    rows = torch.cat([rows, 1 - rows.square().sum(1, True) / 2, one.expand(len(rows), 1)], 1)
    columns = torch.cat([columns, one.expand(len(columns), 1), -columns.square().sum(1, True) / 2], 1)
    everyone = mean_log_sum(rows, columns, log_kernel, own[:, None])
    return everyone - log_kernel(1 - (z1 - z2).square().sum(1) / 2).mean()


def _check(z1: Tensor, z2: Tensor, gammas: Sequence[float], temperatures: Sequence[float], weight: float = 1) -> None:
    checks.embeddings(z1=z1, z2=z2)
    for gamma in gammas:
        checks.exponent(gamma)
    for temperature in temperatures:
        checks.positive("temperature", temperature)
    checks.share("weight", weight)


# The setting in which the mixtures of two kernels are timed and checked.
MIXTURE: Any = {"gammas": (1.0, 2.0), "temperatures": (0.4, 0.4), "weight": 0.5}
EXAMPLES = {
    "laplacian": Example(lambda z1, z2, label: kernel_infonce(z1, z2, 1, 0.4)),
    "kernel_sum": Example(lambda z1, z2, label: kernel_sum(z1, z2, **MIXTURE)),
    "mixed_kernel": Example(lambda z1, z2, label: mixed_kernel(z1, z2, **MIXTURE)),
    "concat": Example(lambda z1, z2, label: concat(z1, z2, **MIXTURE, joint=True)),
}
