"""The linear probe on features: multinomial logistic regression, solved to convergence by L-BFGS."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 16_384  # processed at a time, which bounds the memory used in addition to the features


class Standard(NamedTuple):
    """Standardizes features: each has mean 0 and standard deviation 1 on the set given to `of`. Both: float32 (D,)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Self:
        """Measure mean and standard deviation of x: (N, D), of any float type, which may be a memory map.

        A feature that is constant stays constant. Raises ValueError if the features are not finite.
        """
        mean = torch.stack([rows.double().sum(0) for rows in x.split(ROWS)]).sum(0) / len(x)
        squares = torch.stack([(rows.double() - mean).square().sum(0) for rows in x.split(ROWS)]).sum(0)
        std = (squares / max(len(x) - 1, 1)).sqrt()
        if not std.isfinite().all():
            raise ValueError("linear probe: the features to train on are not finite")
        return cls(mean.float(), std.float().clamp_min(1e-6))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the standardized features as float32. x: (Q, D)."""
        return (x.float() - self.mean) / self.std


class Linear(NamedTuple):
    """A linear classifier. standard: applied to the features first. weight: (C, D); bias: (C,)."""

    standard: Standard
    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def scores(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the logits of features x, (Q, D), in chunks: float32 (q, C) each, on the weight's device."""
        for rows in x.split(ROWS):
            yield self.standard(rows.to(self.weight.device)) @ self.weight.T + self.bias


def logistic(train: Tensor, label: Tensor, classes: int, *, weight_decay: float = 1e-3) -> Linear:
    """Return the minimizer of mean cross entropy + weight_decay / 2 * |W|^2 on standardized features.

    train: (N, D), of any float type; label: int64 (N,) in 0 .. classes - 1. The bias is not decayed.
    In scikit-learn's terms: LogisticRegression(C=1 / (N * weight_decay)) after a StandardScaler.
    """
    standard = Standard.of(train)
    return Linear(standard, *logistic_regression(standard(train), label, weight_decay, classes))


def logistic_regression(x: Tensor, label: Tensor, weight_decay: float, classes: int) -> tuple[Tensor, Tensor]:
    """Return the minimizer's weight (C, D) and bias (C,). x: float (N, D), standardized; label: int64 (N,)."""
    weight = torch.zeros(classes, x.shape[1], requires_grad=True, device=x.device)
    bias = torch.zeros(classes, requires_grad=True, device=x.device)
    solver = torch.optim.LBFGS([weight, bias], max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    # Mean cross entropy + weight_decay / 2 * |W|^2. Each chunk of rows adds its gradients at once, to bound the memory.
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
