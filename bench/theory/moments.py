"""The cross moment of two views, and the directions in which it makes a network with small weights grow."""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from twoview.bench.theory.augmentation import Augmentation
from twoview.bench.theory.learner import Learner
from twoview.loaders.sparse_coding import SparseCoding


class Moments(NamedTuple):
    """Means of the cross moment E[x++ x+'] of two views: along the sparse directions M_j and orthogonal to them.

    They are the rates at which a linear network with small weights grows in these directions.
    """

    sparse: float
    dense: float


def moments(data: SparseCoding, augmentation: Augmentation) -> Moments:
    """Return the moments in expectation, from the traces of `Augmentation.cross_moment` inside and outside span(M)."""
    squares = data.dictionary.astype(np.float64) ** 2
    diagonal = data.active * squares.sum(axis=1) + data.variance
    # The trace over all directions is overlap * sum(diagonal); the part inside span(M) is tr(M' cross_moment M).
    inside = data.d * (data.active + data.variance) + (augmentation.overlap - 1) * float((squares.T @ diagonal).sum())
    outside = augmentation.overlap * float(diagonal.sum()) - inside
    return Moments(inside / data.d, outside / max(data.d1 - data.d, 1))


def expected_in_span(data: SparseCoding, augmentation: Augmentation, learner: Learner) -> float:
    """Return the share of |w|^2 in span(M) when the threshold sets in, for a linear network.

    That is when small weights have grown to `learner.grown` times their first norm. If they do not grow, it is the
    share at the start.
    """
    rates = np.array(moments(data, augmentation)) - learner.decay
    shares = np.array([data.d, data.d1 - data.d]) / data.d1
    if rates.max() <= 0:
        return float(shares[0])

    def energies(time: float) -> np.ndarray:
        """Return |w|^2 inside and outside span(M), with sum 1 at the start: each weight grows as exp(rate * time)."""
        grown: np.ndarray = shares * np.exp(2 * rates * time)
        return grown

    longest = (math.log(learner.grown) - math.log(shares[rates.argmax()])) / rates.max()
    at = energies(brentq(lambda time: energies(time).sum() - learner.grown**2, 0, longest))
    return float(at[0] / at.sum())
