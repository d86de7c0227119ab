"""Who is compared with whom: each embedding of this rank with all embeddings of both views on all ranks."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.losses.gather import gather, rank_offset


class Pairs(NamedTuple):
    """rows: (2B, d), view 1 before view 2. columns: (2WB, d), view 1 of all ranks before view 2 of all ranks.

    own, positive: int64 (2B,), the column that holds the row itself, and the one that holds its other view.
    """

    rows: Tensor
    columns: Tensor
    own: Tensor
    positive: Tensor


def pairs(z1: Tensor, z2: Tensor) -> Pairs:
    """z1, z2: (B, d), as they are to be compared."""
    columns = torch.cat([gather(z1), gather(z2)])
    first = rank_offset(len(z1)) + torch.arange(len(z1), device=z1.device)
    second = first + len(columns) // 2
    return Pairs(torch.cat([z1, z2]), columns, torch.cat([first, second]), torch.cat([second, first]))


def unit(z: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays."""
    return F.normalize(z, dim=-1)
