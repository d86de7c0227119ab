"""Sums of the embeddings of each class, in memory linear in the batch (no matrix of pairs)."""

import torch
from torch import Tensor


def class_sums(z: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each row, the sum (N, d) and the number (N,) of all rows of its class, the row itself included.

    z: (N, d). label: integers (N,), of any values. Classes are numbered by sorting the labels, so that a GPU never
    has to wait for the host to learn how many classes there are.
    """
    ordered, order = label.sort()
    new = torch.cat([ordered.new_zeros(1, dtype=torch.bool), ordered[1:] != ordered[:-1]])  # where a class begins
    number = torch.empty_like(order).scatter_(0, order, new.cumsum(0))
    sums = torch.zeros_like(z).index_add(0, number, z)
    counts = torch.zeros_like(z[:, 0]).index_add(0, number, torch.ones_like(z[:, 0]))
    return sums[number], counts[number]
