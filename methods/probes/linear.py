"""Linear probe on features: multinomial logistic regression, solved to convergence by L-BFGS."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 16_384  # at a time, which bounds the memory beside the features


class Standard(NamedTuple):
    """Features -> features of mean 0 and standard deviation 1 in the set that it is `of`. mean, std: float32 (D,)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Self:
        """x: (N, D), of any float type, a memory map too. A constant feature stays constant.

        ValueError for features that are not finite.
        """
        mean = torch.stack([rows.double().sum(0) for rows in x.split(ROWS)]).sum(0) / len(x)
        squares = torch.stack([(rows.double() - mean).square().sum(0) for rows in x.split(ROWS)]).sum(0)
        std = (squares / max(len(x) - 1, 1)).sqrt()
        if not std.isfinite().all():
            raise ValueError("linear probe: the features to train on are not finite")
        return cls(mean.float(), std.float().clamp_min(1e-6))

    def __call__(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean) / self.std


class Linear(NamedTuple):
    """A linear classifier. standard: what the features go through first. weight: (C, D); bias: (C,)."""

    standard: Standard
    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def scores(self, x: Tensor) -> Iterator[Tensor]:
        """The logits of (Q, D) features in chunks, float32 (q, C) each, on the weight's device."""
        for rows in x.split(ROWS):
            yield self.standard(rows.to(self.weight.device)) @ self.weight.T + self.bias


def logistic(train: Tensor, label: Tensor, classes: int, *, weight_decay: float = 1e-3) -> Linear:
    """The minimizer of mean cross entropy + weight_decay / 2 * |W|^2 on standardized features.

    train: (N, D), of any float type; label: int64 (N,) in 0 .. classes - 1. The intercept is not decayed.
    In scikit-learn's words: LogisticRegression(C=1 / (N * weight_decay)) behind a StandardScaler.
    """
    standard = Standard.of(train)
    return Linear(standard, *logistic_regression(standard(train), label, weight_decay, classes))


def logistic_regression(x: Tensor, label: Tensor, weight_decay: float, classes: int) -> tuple[Tensor, Tensor]:
    """The minimizer's weight (C, D) and bias (C,). x: float (N, D), standardized; label: int64 (N,)."""
    weight = torch.zeros(classes, x.shape[1], requires_grad=True, device=x.device)
    bias = torch.zeros(classes, requires_grad=True, device=x.device)
    solver = torch.optim.LBFGS([weight, bias], max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        total = weight_decay / 2 * weight.square().sum()
        total.backward()
        for rows, right in zip(x.split(ROWS), label.split(ROWS), strict=True):
            loss = F.cross_entropy(rows @ weight.T + bias, right, reduction="sum") / len(x)
            loss.backward()
            total = total.detach() + loss.detach()
        return total

    solver.step(objective)
    return weight.detach(), bias.detach()
