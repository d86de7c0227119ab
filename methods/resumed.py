"""Check the optimizer and loss-scaler state in a checkpoint against the run that resumes from it.

torch itself checks little: it loads a momentum buffer of any shape and a setting of any type, and the next step fails.
"""

import math
from typing import Any

import torch
from torch import Tensor

from twoview.methods.optim import KEPT, Name
from twoview.methods.settings import shown

LARGEST_SCALE = torch.finfo(torch.float32).max


def check_groups(groups: list[dict[str, Any]], mine: list[dict[str, Any]]) -> None:
    """Raise ValueError if a checkpoint's parameter groups differ from the groups of this run's optimizer.

    groups: from the checkpoint. mine: of this run. Values that a schedule sets may be any number. A key that only one
    side has comes from another version of torch and is ignored.
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
    """Check a checkpoint's optimizer state and return it in the memory layout of the weights.

    The layout matters because torch's fused kernels walk through weight and state as if both were dense rows, and would
    write outside the memory of a tensor that is one number expanded to many.
    kept: state from the checkpoint, by the number of the weight. mine: the state that this run's optimizer already has;
    every weight in it must also be in `kept`. weights: the optimizer's weights. name: the optimizer. Raises ValueError
    if a weight's state is missing, incomplete, or of another type or shape.
    """
    must = ", ".join(sorted(KEPT[name]))
    for number in mine.keys() - kept.keys():
        raise ValueError(f"optimizer: weight {number} must have {must}, got nothing")
    for number, entry in kept.items():
        if not 0 <= number < len(weights):
            raise ValueError(f"optimizer: its state must be for weights 0 to {len(weights) - 1}, got weight {number}")
        if entry.keys() != KEPT[name] and (entry or number in mine):
            raise ValueError(f"optimizer: weight {number} must have {must}, got {shown(sorted(entry))}")
        for what, value in entry.items():
            shape = () if what == "step" else tuple(weights[number].shape)
            if not (isinstance(value, Tensor) and value.is_floating_point()):
                raise ValueError(f"optimizer: {what} of weight {number} must be real numbers, got {shown(value)}")
            if value.shape != shape:
                raise ValueError(
                    f"optimizer: {what} of weight {number} must have shape {shape}, got {tuple(value.shape)}"
                )
    return {
        number: {what: _as(weights[number], value) for what, value in entry.items()} for number, entry in kept.items()
    }


def check_scaler(theirs: dict[str, float], mine: dict[str, Any]) -> None:
    """Raise ValueError if a checkpoint's loss-scaler state does not fit this run's.

    theirs: from the checkpoint. mine: of this run. Both are empty unless the precision is fp16.
    """
    if theirs.keys() != mine.keys():
        must = f"have the keys {', '.join(sorted(mine))}" if mine else "be empty unless the precision is fp16"
        raise ValueError(f"scaler must {must}, got {shown(sorted(theirs))}")
    # The largest allowed value of each key that changes during a run. All other keys must be equal.
    most: dict[str, Any] = {"scale": LARGEST_SCALE, "_growth_tracker": mine.get("growth_interval")}
    for key, own in mine.items():
        value = theirs[key]
        if key in most:
            if type(value) is not type(own) or not 0 <= value <= most[key]:
                raise ValueError(f"scaler: {key} must be a number from 0 to {most[key]}, got {shown(value)}")
        elif not _same(value, own):
            raise ValueError(f"scaler: {key} must be {own}, got {shown(value)}")


def _as(weight: Tensor, value: Tensor) -> Tensor:
    """Return the value in the memory layout of the weight. A scalar, such as the number of steps, stays as it is."""
    return torch.empty_like(weight).copy_(value) if value.ndim else value


def _is_number(value: Any) -> bool:
    """Whether the value is one that a schedule sets: a finite float or, in a CUDA graph, a scalar tensor."""
    scalar = isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()
    return scalar or (isinstance(value, float) and math.isfinite(value))


def _same(theirs: Any, mine: Any) -> bool:
    """Whether both values have the same type and are equal. Not for two tensors, whose == would be a tensor again."""
    if type(theirs) is not type(mine):
        return False
    if isinstance(mine, list | tuple):
        return len(theirs) == len(mine) and all(map(_same, theirs, mine))
    return bool(theirs == mine)
