"""Optimizers and their schedules."""

import math
from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from twoview.methods.method import Method
from twoview.methods.settings import Settings

Beta = Annotated[float, Field(ge=0, lt=1)]
Name = Literal["sgd", "lars", "adamw"]
Steps = Annotated[tuple[PositiveFloat, ...], Field(max_length=100)]


class Optim(Settings):
    """The `[optim]` table of a recipe."""

    name: Name = "sgd"
    lr: PositiveFloat = 0.1  # at its peak, for the recipe's batch; not scaled further
    momentum: NonNegativeFloat = 0.9  # of sgd and lars
    nesterov: bool = False  # of sgd
    betas: tuple[Beta, Beta] = (0.9, 0.999)  # of adamw
    weight_decay: NonNegativeFloat = 1e-4
    final_weight_decay: NonNegativeFloat | None = None  # where a cosine takes it over the training; None: it stays
    warmup_epochs: NonNegativeFloat = 0.0  # linear; after it, cosine
    start: NonNegativeFloat = 0.0  # where the warm-up begins, as a share of lr
    floor: NonNegativeFloat = 0.0  # where the cosine ends, as a share of lr
    steps: Steps = ()  # epochs after each of which lr is a tenth, instead of the cosine
    stretch: Annotated[float, Field(ge=1)] = 1.0  # the cosines are laid out for so many times the training, and cut off
    decay_all: bool = False  # weight decay (and, in lars, adaptation) on biases, norms and tokens too
    decay_tokens: bool = False  # weight decay on class token and positions too
    clip_norm: NonNegativeFloat = 0.0  # the gradient's largest norm, of all but prototypes; 0: any
    trust: PositiveFloat = 0.001  # of lars: its trust coefficient, eta
    clip: bool = False  # of lars: an adapted rate is at most lr (LARC)


# What each keeps of a weight: tensors of its shape, and the number of steps.
KEPT: dict[Name, set[str]] = {
    "sgd": {"momentum_buffer"},
    "lars": {"momentum"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
}


def build(optim: Optim, model: nn.Module, recorded: bool = False) -> torch.optim.Optimizer:
    """The optimizer over the model's parameters, fused or foreach (a few kernels a step, not one a parameter).

    Its groups: weights, which decay; vectors (biases, norms) and tokens, which do not unless told to; and what a method
    exempts, which is neither decayed nor clipped.
    recorded: in a CUDA graph, where AdamW counts its steps on the device.
    """
    exempt = {id(model.get_parameter(name)) for name in model.exempt} if isinstance(model, Method) else set()
    plain = set() if optim.decay_tokens or optim.decay_all else _tokens(model)
    if not optim.decay_all:
        plain |= {id(p) for p in model.parameters() if p.ndim <= 1}
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in parameters if id(p) not in plain | exempt],
            "weight_decay": optim.weight_decay,
            "adapt": True,
        },
        {"params": [p for p in parameters if id(p) in plain - exempt], "weight_decay": 0.0, "adapt": False},
        {"params": [p for p in parameters if id(p) in exempt], "weight_decay": 0.0, "adapt": False, "exempt": True},
    ]
    groups = [part for group in groups for part in _by_scale(group)]
    if optim.name == "lars":
        return LARS(groups, optim.lr, optim.momentum, optim.trust, optim.clip)
    if optim.name == "adamw":
        return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True, capturable=recorded)
    sgd = torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.nesterov, fused=True)
    if optim.momentum:
        # torch's fused SGD makes its momentum in the first step, out of memory as it was found there, and a loss scaler
        # that skips that step leaves it so. From zeros the first step is the same: 0 * momentum + gradient.
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _by_scale(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The group in parts, each of parameters with the same `lr_scale`, their share of the learning rate."""
    parts: dict[float, list[Any]] = {}
    for parameter in group["params"]:
        parts.setdefault(getattr(parameter, "lr_scale", 1.0), []).append(parameter)
    return [{**group, "params": parameters, "scale": scale} for scale, parameters in parts.items()]


def _tokens(model: nn.Module) -> set[int]:
    """What the model's modules say is not to decay, as timm's do: class token and positions."""
    tokens = set()
    for module in model.modules():
        if no_weight_decay := getattr(module, "no_weight_decay", None):
            names = no_weight_decay()
            tokens |= {id(parameter) for name, parameter in module.named_parameters() if name in names}
    return tokens


def schedule(optim: Optim, optimizer: torch.optim.Optimizer, epoch: float, epochs: int) -> None:
    """Sets the optimizer's learning rates and weight decays to those of a (fractional) epoch."""
    for group in optimizer.param_groups:
        group["lr"] = lr_at(optim, epoch, epochs) * group.get("scale", 1.0)
        if group["adapt"]:
            group["weight_decay"] = weight_decay_at(optim, epoch, epochs)


def clip(optimizer: torch.optim.Optimizer, norm: float) -> None:
    """Scales the gradient, of all but exempt weights together, to this norm at most, without a look at the device.

    Source: MSN's official code (`clip_grad_norm_` of the encoder with its head).
    """
    clipped = [p for group in optimizer.param_groups if "exempt" not in group for p in group["params"]]
    nn.utils.clip_grad_norm_(clipped, norm, foreach=True)


def lr_at(optim: Optim, epoch: float, epochs: int) -> float:
    """Learning rate at a (fractional) epoch: linear warm-up from start * lr, then cosine to floor * lr at `epochs`."""
    if epoch < optim.warmup_epochs:
        return optim.lr * epoch / optim.warmup_epochs + optim.lr * optim.start * (1 - epoch / optim.warmup_epochs)
    if optim.steps:
        return optim.lr * 0.1 ** sum(epoch >= step for step in optim.steps)
    done = (epoch - optim.warmup_epochs) / max(optim.stretch * epochs - optim.warmup_epochs, 1e-9)
    share = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return optim.lr * (share + optim.floor * (1 - share))


def weight_decay_at(optim: Optim, epoch: float, epochs: int) -> float:
    """Weight decay at a (fractional) epoch: along a cosine, without warm-up, to the final one at `epochs`."""
    if optim.final_weight_decay is None:
        return optim.weight_decay
    share = 0.5 * (1 + math.cos(math.pi * min(epoch / (optim.stretch * epochs), 1.0)))
    return optim.final_weight_decay + (optim.weight_decay - optim.final_weight_decay) * share


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
        self._rooms: dict[tuple[int, ...], _Room] = {}  # by the weights' ids

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            if (known := tuple(map(id, weights))) not in self._rooms:
                self._rooms[known] = _Room(weights)
            room = self._rooms[known]
            update = room.updates
            torch._foreach_copy_(update, [p.grad for p in weights])
            torch._foreach_add_(update, weights, alpha=group["weight_decay"])
            if group["adapt"]:
                room.scale(_trust(weights, update, group))
            for p in weights:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum"] for p in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, update)
            # Not by alpha, which takes no tensor: a CUDA graph's learning rate is one, and gives the same bits.
            torch._foreach_sub_(weights, torch._foreach_mul(buffers, group["lr"]))


class _Room:
    """The updates of a group, one tensor each, in rows of one block of memory, so that one kernel multiplies each of
    them by its own factor, which lies on the device: torch's foreach would take a kernel a tensor for that.
    """

    ROW = 1024  # numbers; a tensor begins with a row of its own, and what it leaves of its last one stays 0

    def __init__(self, weights: list[Tensor]) -> None:
        rows = [-(-w.numel() // self.ROW) for w in weights]
        starts = accumulate(rows, initial=0)
        whose = [number for number, count in enumerate(rows) for _ in range(count)]
        self._block = weights[0].new_zeros(len(whose), self.ROW)
        self._whose = torch.tensor(whose, device=weights[0].device)
        self.updates = [
            self._block.as_strided(w.shape, w.stride(), self.ROW * start)
            for w, start in zip(weights, starts, strict=False)
        ]

    def scale(self, factors: Tensor) -> None:
        """factors: one an update, (N,)."""
        self._block.mul_(factors[self._whose, None])


def _trust(weights: list[Tensor], update: list[Tensor], group: dict[str, Any]) -> Tensor:
    """(N,): trust * |w| / |update| a tensor, clipped or not, and 1 where either norm is 0."""
    w = torch.stack(torch._foreach_norm(weights))
    u = torch.stack(torch._foreach_norm(update))
    ratio = group["trust"] * w / u
    if group["clip"]:
        ratio = torch.clamp(ratio / group["lr"], max=1)
    return torch.where((w > 0) & (u > 0), ratio, torch.ones_like(w))
