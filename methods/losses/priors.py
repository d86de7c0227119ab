"""Priors over prototypes: what share of all images each of K prototypes is to have. Positive, of sum 1."""

import torch
from torch import Tensor


def uniform(prototypes: int) -> Tensor:
    """Float64 (K,), 1 / K each: what MSN assumes."""
    return torch.full((prototypes,), 1 / prototypes, dtype=torch.float64)


def power_law(prototypes: int, exponent: float = 0.25) -> Tensor:
    """Float64 (K,), in proportion to k^-exponent, k = 1 .. K; 0 is uniform.

    Source: the prior of Assran et al. 2023 as lightly's PMSNLoss and stable-pretraining's PMSN have it.
    """
    shares = torch.arange(1, prototypes + 1, dtype=torch.float64) ** -exponent
    return shares / shares.sum()


def histogram(counts: Tensor, prototypes: int) -> Tensor:
    """Float64 (K,): the classes' shares, the most frequent first, spread over the prototypes.

    The C classes, sorted, lie side by side with widths 1 / C, and so do the prototypes with widths 1 / K: a prototype
    has what lies over it. With K a multiple of C each class has K / C prototypes of equal shares; with K below C
    neighbors share a prototype. Each class counts one image more than it has, so that none is without a share.

    counts: (C,), images of each class, any dtype. That classes are spread so is this project's choice: how Assran et
    al. 2023 did it could not be read.
    """
    images = (counts.long() + 1).sort(descending=True).values
    # At the classes' edges. Of whole numbers, because a GPU may add up others in any order, and refuse to.
    below = torch.cat([images.new_zeros(1), images.cumsum(0)]).double() / images.sum()
    edges = torch.arange(prototypes + 1, device=counts.device, dtype=torch.float64) * len(counts) / prototypes
    left = edges.long().clamp(max=len(counts) - 1)
    return torch.lerp(below[left], below[left + 1], edges - left).diff()
