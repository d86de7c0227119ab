"""What a checkpoint says of an optimizer and a loss scaler, compared with those that take it up.

torch compares little of it: it takes up a momentum of any shape and a setting of any type, and fails in the next step.
"""

import math
from typing import Any

import torch
from torch import Tensor

from twoview.methods.optim import KEPT, Name
from twoview.methods.settings import shown

LARGEST_SCALE = torch.finfo(torch.float32).max


def check_groups(groups: list[dict[str, Any]], mine: list[dict[str, Any]]) -> None:
    """ValueError for an optimizer's groups that are not mine. What a schedule sets needs only be a number.

    A key that only one of them has is another version of torch's.
    """
    if len(groups) != len(mine):
        raise ValueError(f"optimizer: there must be {len(mine)} groups, got {len(groups)}")
    for number, (theirs, own) in enumerate(zip(groups, mine, strict=True)):
        if not {"params", "lr", "weight_decay", "adapt"} <= theirs.keys():
            raise ValueError("optimizer: every group must have params, lr, weight_decay and adapt")
        scheduled = {"lr", "weight_decay"} if own["adapt"] else {"lr"}
        for key in sorted(theirs.keys() & own.keys()):
            good = _is_number(theirs[key]) if key in scheduled else _same(theirs[key], own[key])
            if not good:
                must = "a number" if key in scheduled else shown(own[key])
                raise ValueError(f"optimizer: {key} of group {number} must be {must}, got {shown(theirs[key])}")


def checked_state(
    kept: dict[int, dict[str, Any]], mine: dict[int, Any], weights: list[Tensor], name: Name
) -> dict[int, dict[str, Tensor]]:
    """What an optimizer of that name kept of these weights, in memory as each weight has it: torch's fused kernels go
    through both as if they were rows, and would write beside a tensor that is one number expanded to many.

    mine: what it keeps of some of them already: of these the other must be complete. ValueError for anything else.
    """
    must = ", ".join(sorted(KEPT[name]))
    for number in mine.keys() - kept.keys():
        raise ValueError(f"optimizer: weight {number} must have {must}, got nothing")
    for number, entry in kept.items():
        if not 0 <= number < len(weights):
            raise ValueError(f"optimizer: there are {len(weights)} weights, and its state is of number {number}")
        if entry.keys() != KEPT[name] and (entry or number in mine):
            raise ValueError(f"optimizer: weight {number} must have {must}, got {shown(sorted(entry))}")
        for what, value in entry.items():
            shape = () if what == "step" else tuple(weights[number].shape)
            if not (isinstance(value, Tensor) and value.is_floating_point()):
                raise ValueError(f"optimizer: {what} of weight {number} must be real numbers, got {shown(value)}")
            if value.shape != shape:
                raise ValueError(f"optimizer: {what} of weight {number} must be {shape}, got {tuple(value.shape)}")
    return {
        number: {what: _as(weights[number], value) for what, value in entry.items()} for number, entry in kept.items()
    }


def check_scaler(theirs: dict[str, float], mine: dict[str, Any]) -> None:
    """ValueError for a loss scaler's state that is not one of mine: it is empty but in fp16."""
    if theirs.keys() != mine.keys():
        raise ValueError(f"scaler must have {', '.join(mine) or 'no keys'}, got {shown(sorted(theirs))}")
    # Of what a training changes.
    most: dict[str, Any] = {"scale": LARGEST_SCALE, "_growth_tracker": mine.get("growth_interval")}
    for key, own in mine.items():
        value = theirs[key]
        if key in most:
            if type(value) is not type(own) or not 0 <= value <= most[key]:
                raise ValueError(f"scaler: {key} must be a number from 0 to {most[key]}, got {shown(value)}")
        elif not _same(value, own):
            raise ValueError(f"scaler: {key} must be {own}, got {shown(value)}")


def _as(weight: Tensor, value: Tensor) -> Tensor:
    return torch.empty_like(weight).copy_(value) if value.ndim else value


def _is_number(value: Any) -> bool:
    """Whether a schedule may have set it: in a CUDA graph it is a scalar on the device."""
    scalar = isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()
    return scalar or (isinstance(value, float) and math.isfinite(value))


def _same(theirs: Any, mine: Any) -> bool:
    """Whether type and value are mine. A tensor is never compared: it would give another one."""
    if type(theirs) is not type(mine):
        return False
    if isinstance(mine, list | tuple):
        return len(theirs) == len(mine) and all(map(_same, theirs, mine))
    return bool(theirs == mine)
