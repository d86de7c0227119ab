"""Optimizers (SGD, LARS, AdamW) and their schedules of learning rate and weight decay."""

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
    """The `[optim]` table of a recipe (the TOML file of an experiment)."""

    name: Name = "sgd"  # optimizer: sgd, lars or adamw
    lr: PositiveFloat = 0.1  # peak learning rate for the recipe's batch size; it is not scaled any further
    momentum: NonNegativeFloat = 0.9  # momentum of sgd and lars
    nesterov: bool = False  # whether sgd uses Nesterov momentum
    betas: tuple[Beta, Beta] = (0.9, 0.999)  # betas of adamw
    weight_decay: NonNegativeFloat = 1e-4  # weight decay, at the start if final_weight_decay is given
    final_weight_decay: NonNegativeFloat | None = None  # weight decay at the end of a cosine; None keeps it constant
    warmup_epochs: NonNegativeFloat = 0.0  # epochs of linear warm-up; a cosine, or steps, follow it
    start: NonNegativeFloat = 0.0  # learning rate at the start of the warm-up, as a share of lr
    floor: NonNegativeFloat = 0.0  # learning rate at the end of the cosine, as a share of lr
    steps: Steps = ()  # epochs at which the learning rate is divided by 10; if given, they replace the cosine
    stretch: Annotated[float, Field(ge=1)] = 1.0  # cosines last this many times the run, which ends them early
    decay_all: bool = False  # whether biases, norms and tokens get weight decay too (and, in lars, adapted steps)
    decay_tokens: bool = False  # whether class token and position embeddings get weight decay too
    clip_norm: NonNegativeFloat = 0.0  # largest norm of the gradient, without prototypes; 0 does not clip
    trust: PositiveFloat = 0.001  # trust coefficient eta of lars
    clip: bool = False  # whether lars limits a tensor's adapted rate to lr (LARC)


# The state that each optimizer keeps for a weight: tensors of its shape and, as `step`, the number of steps.
KEPT: dict[Name, set[str]] = {
    "sgd": {"momentum_buffer"},
    "lars": {"momentum"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
}


def build(optim: Optim, model: nn.Module, recorded: bool = False) -> torch.optim.Optimizer:
    """Return the optimizer of the model's trainable parameters. It takes a few kernels per step, not one per parameter.

    It has three kinds of parameter groups: weights, which decay; vectors (biases, norms) and tokens, which decay only
    if the settings say so; and the parameters that a method exempts, which are neither decayed nor clipped.
    recorded: whether a CUDA graph records the steps, for which AdamW must count them on the device.
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
        # torch's fused SGD allocates its momentum buffers in the first step without initializing them, and they stay
        # uninitialized if a loss scaler skips that step. Zeros give the same first step: 0 * momentum + gradient.
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _by_scale(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Split a group into groups whose parameters have the same `lr_scale`, a factor on the learning rate."""
    parts: dict[float, list[Any]] = {}
    for parameter in group["params"]:
        parts.setdefault(getattr(parameter, "lr_scale", 1.0), []).append(parameter)
    return [{**group, "params": parameters, "scale": scale} for scale, parameters in parts.items()]


def _tokens(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that modules list in `no_weight_decay`: in timm, class token and positions."""
    tokens = set()
    for module in model.modules():
        if no_weight_decay := getattr(module, "no_weight_decay", None):
            names = no_weight_decay()
            tokens |= {id(parameter) for name, parameter in module.named_parameters() if name in names}
    return tokens


def schedule(optim: Optim, optimizer: torch.optim.Optimizer, epoch: float, epochs: int) -> None:
    """Set the optimizer's learning rates and weight decays for a (fractional) epoch."""
    for group in optimizer.param_groups:
        group["lr"] = lr_at(optim, epoch, epochs) * group.get("scale", 1.0)
        if group["adapt"]:
            group["weight_decay"] = weight_decay_at(optim, epoch, epochs)


def clip(optimizer: torch.optim.Optimizer, norm: float) -> None:
    """Scale the joint gradient of all parameters that are not exempt to at most this norm.

    The host does not wait for the device.
    Source: MSN's official code (`clip_grad_norm_` of the encoder with its head).
    """
    clipped = [p for group in optimizer.param_groups if "exempt" not in group for p in group["params"]]
    nn.utils.clip_grad_norm_(clipped, norm, foreach=True)


def lr_at(optim: Optim, epoch: float, epochs: int) -> float:
    """Return the learning rate at a (fractional) epoch of a run of `epochs` epochs.

    It rises linearly from start * lr to lr during the warm-up. Then it falls along a cosine that reaches floor * lr at
    epoch stretch * epochs, or by a factor of 10 at each of the settings' `steps`.
    """
    if epoch < optim.warmup_epochs:
        return optim.lr * epoch / optim.warmup_epochs + optim.lr * optim.start * (1 - epoch / optim.warmup_epochs)
    if optim.steps:
        return optim.lr * 0.1 ** sum(epoch >= step for step in optim.steps)
    done = (epoch - optim.warmup_epochs) / max(optim.stretch * epochs - optim.warmup_epochs, 1e-9)
    share = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return optim.lr * (share + optim.floor * (1 - share))


def weight_decay_at(optim: Optim, epoch: float, epochs: int) -> float:
    """Return the weight decay at a (fractional) epoch of a run of `epochs` epochs.

    It goes along a cosine, without warm-up, to final_weight_decay at epoch stretch * epochs; without that setting it is
    constant.
    """
    if optim.final_weight_decay is None:
        return optim.weight_decay
    share = 0.5 * (1 + math.cos(math.pi * min(epoch / (optim.stretch * epochs), 1.0)))
    return optim.final_weight_decay + (optim.weight_decay - optim.final_weight_decay) * share


class LARS(torch.optim.Optimizer):
    """LARS, layer-wise adaptive rate scaling (You et al. 2017).

    The update g + decay * w of each tensor w with gradient g is multiplied by trust * |w| / |g + decay * w|. Momentum
    is applied after this scaling, and the learning rate multiplies the momentum buffer, as in the official VICReg and
    SimCLR code. With clip, the factor is min(trust * |w| / |g + decay * w| / lr, 1), so that a tensor's rate is at most
    lr (LARC), as in solo-learn. A group with adapt=False (biases and norms) takes plain momentum steps.
    Lightning-bolts and solo-learn divide by |g| + decay * |w| instead, a relative difference of up to the order of
    decay * |w| / |g|.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.9, trust: float = 0.001, clip: bool = False
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "trust": trust, "clip": clip, "weight_decay": 0.0, "adapt": True}
        super().__init__(params, defaults)
        self._rooms: dict[tuple[int, ...], _Room] = {}  # memory for the updates, by the ids of a group's weights

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
            # foreach_sub's alpha takes no tensor, and in a CUDA graph the learning rate is one. Multiplying first gives
            # the same bits either way.
            torch._foreach_sub_(weights, torch._foreach_mul(buffers, group["lr"]))


class _Room:
    """Memory for the updates of a group's weights, in rows of one block.

    One kernel can then multiply each update by its own factor, with the factors on the device. torch's foreach
    functions would take one kernel per tensor for that.
    """

    ROW = 1024  # numbers in a row; each update begins with a new row, and the unused rest of its last row stays 0

    def __init__(self, weights: list[Tensor]) -> None:
        rows = [-(-w.numel() // self.ROW) for w in weights]  # rows of each update
        starts = accumulate(rows, initial=0)
        whose = [number for number, count in enumerate(rows) for _ in range(count)]  # the update that has each row
        self._block = weights[0].new_zeros(len(whose), self.ROW)
        self._whose = torch.tensor(whose, device=weights[0].device)
        self.updates = [
            self._block.as_strided(w.shape, w.stride(), self.ROW * start)
            for w, start in zip(weights, starts, strict=False)
        ]

    def scale(self, factors: Tensor) -> None:
        """Multiply each of the N updates by its factor. factors: (N,)."""
        self._block.mul_(factors[self._whose, None])


def _trust(weights: list[Tensor], update: list[Tensor], group: dict[str, Any]) -> Tensor:
    """Return the factor of each of N tensors, (N,): trust * |w| / |update|, or 1 if either norm is 0.

    With clip, the factor is divided by lr and at most 1.
    """
    w = torch.stack(torch._foreach_norm(weights))
    u = torch.stack(torch._foreach_norm(update))
    ratio = group["trust"] * w / u
    if group["clip"]:
        ratio = torch.clamp(ratio / group["lr"], max=1)
    return torch.where((w > 0) & (u > 0), ratio, torch.ones_like(w))
