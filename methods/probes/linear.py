"""Linear probe on features: multinomial logistic regression, solved to convergence by L-BFGS."""

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_top1(
    train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor, *, weight_decay: float = 1e-3
) -> float:
    """Top-1 in percent on `test` of the minimiser of mean cross entropy + weight_decay / 2 * |W|^2 on `train`.

    train: float (N, D), test: float (Q, D), both standardised by the mean and standard deviation of `train`;
    labels int64. The intercept is not decayed. In scikit-learn's words: LogisticRegression(C=1 / (N * weight_decay)).
    """
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    weight, bias = logistic_regression((train - mean) / std, train_label, weight_decay)
    guess = ((test - mean) / std @ weight.T + bias).argmax(1)
    return 100 * float((guess == test_label).float().mean())


def logistic_regression(x: Tensor, label: Tensor, weight_decay: float) -> tuple[Tensor, Tensor]:
    """The minimiser's weight (C, D) and bias (C,). x: float (N, D), standardised; label: int64 (N,) in 0 .. C - 1."""
    classes = int(label.max()) + 1
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, label) + weight_decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    return weight.detach(), bias.detach()
