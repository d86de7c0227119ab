"""The pairs that a contrastive loss compares: each embedding of this rank with both views of all ranks' images."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.losses.gather import gather, rank_offset


class Pairs(NamedTuple):
    """The rows and columns of the matrix of similarities, on one of W ranks with B images each.

    rows: (2B, d), view 1 before view 2. columns: (2WB, d), view 1 of all ranks before view 2 of all ranks.
    own, positive: int64 (2B,), the index of the column that holds the row itself and of the one that holds its other
    view.
    """

    rows: Tensor
    columns: Tensor
    own: Tensor
    positive: Tensor


def pairs(z1: Tensor, z2: Tensor) -> Pairs:
    """Return the pairs to compare. z1, z2: (B, d), the two views, already normalized if the loss needs that."""
    columns = torch.cat([gather(z1), gather(z2)])
    first = rank_offset(len(z1)) + torch.arange(len(z1), device=z1.device)
    second = first + len(columns) // 2
    return Pairs(torch.cat([z1, z2]), columns, torch.cat([first, second]), torch.cat([second, first]))


def unit(z: Tensor) -> Tensor:
    """Return the rows scaled to unit length. A row of zeros stays zero."""
    return F.normalize(z, dim=-1)
