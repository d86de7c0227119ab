"""Priors over prototypes: the share of all images that each of K prototypes should get.

All shares are above 0, and their sum is 1.
"""

import torch
from torch import Tensor


def uniform(prototypes: int) -> Tensor:
    """Return the uniform prior that MSN assumes: float64 (K,), 1 / K for each prototype."""
    return torch.full((prototypes,), 1 / prototypes, dtype=torch.float64)


def power_law(prototypes: int, exponent: float = 0.25) -> Tensor:
    """Return a power-law prior: float64 (K,), proportional to k^-exponent for k = 1 .. K. Exponent 0 is uniform.

    Source: the prior of Assran et al. 2023, as implemented in lightly's PMSNLoss and stable-pretraining's PMSN.
    """
    shares = torch.arange(1, prototypes + 1, dtype=torch.float64) ** -exponent
    return shares / shares.sum()


def histogram(counts: Tensor, prototypes: int) -> Tensor:
    """Return a prior made of the class frequencies, most frequent class first: float64 (K,).

    On the interval [0, 1] the C sorted classes lie side by side with width 1 / C each, and the K prototypes with width
    1 / K each. A prototype gets the share of the class mass that lies in its part of the interval. If K is a multiple
    of C, each class is split equally over K / C prototypes; if K is below C, neighboring classes share a prototype.
    Each class counts as having one image more than it has, so that no share is 0.

    counts: (C,), images of each class, any dtype. prototypes: K. Spreading the classes in this way is this project's
    choice; how Assran et al. 2023 did it could not be read.
    """
    images = (counts.long() + 1).sort(descending=True).values
    # `below` is the cumulative share at the edges of the classes. The running sum is of integers: of floats, a GPU may
    # add them in any order, and torch refuses that when deterministic algorithms are required.
    below = torch.cat([images.new_zeros(1), images.cumsum(0)]).double() / images.sum()
    # The edges of the prototypes in units of classes; between two class edges the cumulative share is linear.
    edges = torch.arange(prototypes + 1, device=counts.device, dtype=torch.float64) * len(counts) / prototypes
    left = edges.long().clamp(max=len(counts) - 1)
    return torch.lerp(below[left], below[left + 1], edges - left).diff()
