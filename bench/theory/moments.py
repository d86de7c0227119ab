"""What two views have in common, and which directions a network with small weights grows in for it."""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from twoview.bench.theory.augmentation import Augmentation
from twoview.bench.theory.learner import Learner
from twoview.loaders.sparse_coding import SparseCoding


class Moments(NamedTuple):
    """What the cross moment E[x++ x+'] of two views is along the sparse directions M_j and along those orthogonal to
    them, a mean each: the rates at which a linear network with small weights grows there.
    """

    sparse: float
    dense: float


def moments(data: SparseCoding, augmentation: Augmentation) -> Moments:
    """In expectation, without a sample: the traces of `Augmentation.cross_moment` inside span(M) and outside."""
    squares = data.dictionary.astype(np.float64) ** 2
    diagonal = data.active * squares.sum(axis=1) + data.variance
    inside = data.d * (data.active + data.variance) + (augmentation.overlap - 1) * float((squares.T @ diagonal).sum())
    outside = augmentation.overlap * float(diagonal.sum()) - inside
    return Moments(inside / data.d, outside / max(data.d1 - data.d, 1))


def expected_in_span(data: SparseCoding, augmentation: Augmentation, learner: Learner) -> float:
    """The share of |w|^2 in span(M) when a linear network with small weights has grown to `learner.grown` times its
    first norm, where the threshold sets in; as at the start where it does not grow.
    """
    rates = np.array(moments(data, augmentation)) - learner.decay
    shares = np.array([data.d, data.d1 - data.d]) / data.d1
    if rates.max() <= 0:
        return float(shares[0])

    def energies(time: float) -> np.ndarray:
        grown: np.ndarray = shares * np.exp(2 * rates * time)
        return grown

    longest = (math.log(learner.grown) - math.log(shares[rates.argmax()])) / rates.max()
    at = energies(brentq(lambda time: energies(time).sum() - learner.grown**2, 0, longest))
    return float(at[0] / at.sum())
