"""Linear probes on features by SGD, a whole grid of learning rates and weight decays trained in one pass.

All heads of the grid see the same batches, so that they are one matrix: a step is one product forward and one back,
however many heads there are.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from twoview.methods.probes.linear import ROWS, Linear, Standard

RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
DECAYS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
MOMENTUM = 0.9
HELD_OUT = 0.1  # of the training features, on which the heads are compared


class Tried(NamedTuple):
    """A head of the grid and its top-1, in percent, on the part that was held out."""

    lr: float
    weight_decay: float
    top1: float


class Grid(NamedTuple):
    """head: trained with the best pair on all of the training features. best: what that pair reached before."""

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
    """Trains a head for every pair of rate and decay on nine tenths of the features, compares them on the tenth that
    is held out, and trains the best pair again on all.

    train: (N, D), of any float type, on the device that is to compute; label: int64 (N,). Each head minimizes mean
    cross entropy + weight_decay / 2 * |W|^2 on standardized features from zero weights: momentum 0.9, cosine to 0.
    ValueError if there are fewer than two features.
    """
    if len(train) < 2:
        raise ValueError(f"{len(train)} training features cannot be divided into some to train on and some held out")
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
    """A head a pair: weight (D, H, C) and bias (H, C), trained on the rows `kept`."""
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
            # The gradient of cross entropy in the logits: what is said of each class less what is so.
            off = _logits(x, weight, bias).softmax(2)
            off[torch.arange(len(rows), device=rows.device), :, label[rows]] -= 1
            off /= len(rows)
            speed.mul_(MOMENTUM).addcmul_(decay, weight).flatten(1).addmm_(x.T, off.flatten(1))
            bias_speed.mul_(MOMENTUM).add_(off.sum(0))
            rate = lr * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            weight.addcmul_(rate, speed, value=-1)
            bias.addcmul_(rate, bias_speed, value=-1)
            step += 1
    return standard, weight, bias


def _logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, D) features -> (B, H, C)."""
    return (x @ weight.flatten(1)).view(len(x), *bias.shape) + bias
