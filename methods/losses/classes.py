"""Sums over the embeddings of a class, without a matrix of pairs."""

import torch
from torch import Tensor


def class_sums(z: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row the sum over all rows of its class, (N, d), and how many there are, (N,), both with the row itself.

    z: (N, d). label: whole numbers (N,), any values. Classes are numbered by sorting, which a GPU does without
    telling the host how many there are.
    """
    ordered, order = label.sort()
    new = torch.cat([ordered.new_zeros(1, dtype=torch.bool), ordered[1:] != ordered[:-1]])
    number = torch.empty_like(order).scatter_(0, order, new.cumsum(0))
    sums = torch.zeros_like(z).index_add(0, number, z)
    counts = torch.zeros_like(z[:, 0]).index_add(0, number, torch.ones_like(z[:, 0]))
    return sums[number], counts[number]
