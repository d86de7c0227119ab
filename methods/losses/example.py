"""A loss in one setting: what it costs is measured in it, and whether a device computes what another does."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Lightly(NamedTuple):
    """The same loss in lightly: a class of lightly.loss and its arguments, and what its call takes beside embeddings.

    arguments: from the width. beside: from width and device.
    """

    name: str
    arguments: Callable[[int], dict[str, Any]] = lambda dim: {}
    beside: Callable[[int, torch.device], dict[str, Any]] = lambda dim, device: {}


class Example(NamedTuple):
    """loss: (z1, z2, label) -> scalar, of float (B, d) embeddings of any dtype and an int64 (B,) label; no state.

    timed: whether its cost is measured too. at_scale: makes what is timed in the loss's place, from width and device,
    where that needs more than the embeddings: a queue, prototypes. lightly: what stands beside it then, if anything.
    """

    loss: Loss
    timed: bool = True
    at_scale: Callable[[int, torch.device], Loss] | None = None
    lightly: Lightly | None = None
