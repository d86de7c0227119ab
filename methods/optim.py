"""Optimisers and their schedule."""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from methods.settings import Settings


class Optim(Settings):
    """The `[optim]` table of a recipe."""

    name: Literal["sgd", "lars", "adamw"] = "sgd"
    lr: PositiveFloat = 0.1  # at its peak, for the recipe's batch; not scaled further
    momentum: NonNegativeFloat = 0.9  # of sgd and lars
    weight_decay: NonNegativeFloat = 1e-4
    warmup_epochs: NonNegativeFloat = 0.0  # linear from 0; after it, cosine
    floor: NonNegativeFloat = 0.0  # where the cosine ends, as a share of lr
    decay_all: bool = False  # weight decay (and, in lars, adaptation) on biases and norms too
    trust: PositiveFloat = 0.001  # of lars: its trust coefficient, eta
    clip: bool = False  # of lars: an adapted rate is at most lr (LARC)


def build(optim: Optim, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over the model's parameters, foreach (a few kernels a step, not one a parameter)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    plain = [p for p in parameters if p.ndim <= 1 and not optim.decay_all]
    decayed = [p for p in parameters if p.ndim > 1 or optim.decay_all]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": optim.weight_decay, "adapt": True},
        {"params": plain, "weight_decay": 0.0, "adapt": False},
    ]
    groups = [group for group in groups if group["params"]]
    if optim.name == "lars":
        return LARS(groups, optim.lr, optim.momentum, optim.trust, optim.clip)
    if optim.name == "adamw":
        return torch.optim.AdamW(groups, lr=optim.lr, foreach=True)
    return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, foreach=True)


def lr_at(optim: Optim, epoch: float, epochs: int) -> float:
    """Learning rate at a (fractional) epoch: linear warm-up from 0, then cosine to floor * lr at `epochs`."""
    if epoch < optim.warmup_epochs:
        return optim.lr * epoch / optim.warmup_epochs
    done = (epoch - optim.warmup_epochs) / max(epochs - optim.warmup_epochs, 1e-9)
    share = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return optim.lr * (share + optim.floor * (1 - share))


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017): each tensor's step is times trust * |w| / |g + decay * w|.

    Momentum comes after the scaling and the learning rate multiplies the momentum buffer, as in the official VICReg and
    SimCLR code. clip: the factor is at most 1 / lr, as in solo-learn. A group with adapt=False (biases and norms) takes
    plain momentum steps. (Lightning-bolts and solo-learn divide by |g| + decay * |w|, which is the same but for a share
    of decay * |w| / |g|.)
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.9, trust: float = 0.001, clip: bool = False
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "trust": trust, "clip": clip, "weight_decay": 0.0, "adapt": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            update = torch._foreach_add([p.grad for p in weights], weights, alpha=group["weight_decay"])
            if group["adapt"]:
                torch._foreach_mul_(update, _trust(weights, update, group))
            for p in weights:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum"] for p in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, update)
            torch._foreach_add_(weights, buffers, alpha=-group["lr"])


def _trust(weights: list[Tensor], update: tuple[Tensor, ...], group: dict[str, Any]) -> list[Tensor]:
    """trust * |w| / |update| a tensor, clipped or not, and 1 where either norm is 0."""
    w = torch.stack(torch._foreach_norm(weights))
    u = torch.stack(torch._foreach_norm(update))
    ratio = group["trust"] * w / u
    if group["clip"]:
        ratio = torch.clamp(ratio / group["lr"], max=1)
    return list(torch.where((w > 0) & (u > 0), ratio, torch.ones_like(w)).unbind())
