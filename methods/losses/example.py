"""A loss in one fixed setting, used to measure its cost and to compare its results between devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Lightly(NamedTuple):
    """The same loss in the library lightly, as a peer to compare with.

    name: class in `lightly.loss`. arguments: width of the embeddings -> arguments of its constructor. beside: width and
    device -> more arguments of its call, in addition to the embeddings.
    """

    name: str
    arguments: Callable[[int], dict[str, Any]] = lambda dim: {}
    beside: Callable[[int, torch.device], dict[str, Any]] = lambda dim, device: {}


class Example(NamedTuple):
    """A loss as a plain function with fixed settings, with which its cost is measured and devices are compared.

    loss: (z1, z2, label) -> scalar, for embeddings z1 and z2, (B, d) of any floating dtype, and an int64 (B,) label.
    timed: whether its cost is measured too. at_scale: width and device -> the loss to time in place of `loss`, for
    losses that need more than the embeddings, such as a queue or prototypes. lightly: the same loss in lightly, timed
    with it, if lightly has it.
    """

    loss: Loss
    timed: bool = True
    at_scale: Callable[[int, torch.device], Loss] | None = None
    lightly: Lightly | None = None
