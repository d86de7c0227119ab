"""Linear probes trained on features by SGD: a whole grid of learning rates and weight decays in one pass.

All heads of the grid see the same batches, so they are stored as one matrix: a step is one matrix product forward and
one backward, however many heads there are.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from twoview.methods.probes.linear import ROWS, Linear, Standard

# The grid by default: learning rates and weight decays.
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
DECAYS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
MOMENTUM = 0.9
HELD_OUT = 0.1  # share of the training features that is held out to compare the heads


class Tried(NamedTuple):
    """The learning rate and weight decay of one head of the grid, and its top-1 in percent on the held-out features."""

    lr: float
    weight_decay: float
    top1: float


class Grid(NamedTuple):
    """What `sgd_grid` returns.

    head: trained with the best pair on all training features. best: that pair and its top-1 on the held-out features.
    tried: every pair of the grid with its own top-1.
    """

    head: Linear
    best: Tried
    tried: list[Tried]


@torch.no_grad()
def sgd_grid(
    train: Tensor,
    label: Tensor,
    classes: int,
    *,
    rates: Sequence[float] = RATES,
    weight_decays: Sequence[float] = DECAYS,
    epochs: int = 50,
    batch: int = 256,
    seed: int = 0,
) -> Grid:
    """Train one head per pair of learning rate and weight decay, choose the best pair, and train it again on all data.

    The heads are trained on nine tenths of the features and compared on the tenth that is held out. Each minimizes mean
    cross entropy + weight_decay / 2 * |W|^2 on standardized features, from zero weights, by SGD with momentum 0.9 and a
    cosine schedule to 0.
    train: (N, D), of any float type, on the device that is to compute. label: int64 (N,). batch: features in a step.
    Raises ValueError if there are fewer than two features.
    """
    if len(train) < 2:
        raise ValueError(f"there must be at least 2 training features, one of them to hold out, got {len(train)}")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    held = max(1, round(HELD_OUT * len(train)))
    kept, out = order[held:].to(train.device), order[:held].to(train.device)
    pairs = list(product(rates, weight_decays))
    standard, weight, bias = _train(train, label, kept, classes, pairs, epochs, batch, seed)
    right = torch.zeros(len(pairs), device=train.device)
    for rows in out.split(ROWS):
        logits = _logits(standard(train[rows]), weight, bias)
        right += (logits.argmax(2) == label[rows, None]).sum(0)
    tried = [Tried(*pair, 100 * hits / held) for pair, hits in zip(pairs, right.tolist(), strict=True)]
    best = max(tried, key=lambda one: one.top1)
    everything = torch.arange(len(train), device=train.device)
    standard, weight, bias = _train(train, label, everything, classes, [best[:2]], epochs, batch, seed)
    return Grid(Linear(standard, weight[:, 0].T, bias[0]), best, tried)


def _train(
    train: Tensor,
    label: Tensor,
    kept: Tensor,
    classes: int,
    pairs: Sequence[tuple[float, float]],
    epochs: int,
    batch: int,
    seed: int,
) -> tuple[Standard, Tensor, Tensor]:
    """Train H heads, one per pair, on the rows `kept`; return the standardization, weight (D, H, C) and bias (H, C)."""
    standard = Standard.of(train[kept])
    lr, decay = torch.tensor(pairs, device=train.device).T[..., None]
    weight = torch.zeros(train.shape[1], len(pairs), classes, device=train.device)
    bias = torch.zeros(len(pairs), classes, device=train.device)
    speed, bias_speed = torch.zeros_like(weight), torch.zeros_like(bias)
    orders = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(kept) // batch)
    step = 0
    for _ in range(epochs):
        for places in torch.randperm(len(kept), generator=orders).split(batch):
            rows = kept[places.to(kept.device)]
            x = standard(train[rows])
            # The gradient of mean cross entropy in the logits: predicted probabilities less the one-hot label.
            off = _logits(x, weight, bias).softmax(2)
            off[torch.arange(len(rows), device=rows.device), :, label[rows]] -= 1
            off /= len(rows)
            # SGD: speed = momentum * speed + gradient + weight_decay * weight. The bias is not decayed.
            speed.mul_(MOMENTUM).addcmul_(decay, weight).flatten(1).addmm_(x.T, off.flatten(1))
            bias_speed.mul_(MOMENTUM).add_(off.sum(0))
            # Each head's own learning rate falls to 0 along a half cosine.
            rate = lr * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            weight.addcmul_(rate, speed, value=-1)
            bias.addcmul_(rate, bias_speed, value=-1)
            step += 1
    return standard, weight, bias


def _logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the logits (B, H, C) of features x, (B, D), by each of the H heads."""
    return (x @ weight.flatten(1)).view(len(x), *bias.shape) + bias
