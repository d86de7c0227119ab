"""Kernel-InfoNCE of a whole graph, the limit of large batches: its value, its gradient and its minimum, in float64.

All that is random in training is gone: positive pairs are weighted by their probability, and every node is a negative,
weighted by its own. What is left over free unit embeddings is a smooth function of a few hundred numbers, but for the
cusp that kernels of gamma below 2 have at distance 0; there a distance d counts as sqrt(d^2 + r^2), r small.
The gradients are written out, because that is six times faster than autograd at these sizes; tests hold them to it, and
the values to the suite's own losses.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize

from twoview.bench.theory.graph import Graph

# log K and its slope, of squared distances.
Kernel = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# The loss and its gradient, (n, d), of unit embeddings, (n, d), of a graph with these pair probabilities, (n, n).
# The last argument is r.
Objective = Callable[[np.ndarray, np.ndarray, float], tuple[float, np.ndarray]]

ROUNDED = (0.3, 0.03)  # r: from a landscape without cusps to one that has nearly the kernel's
PRECISE = {"maxiter": 500, "ftol": 1e-9, "gtol": 1e-8}


def exponential(gamma: float, temperature: float) -> Kernel:
    """exp(-d^gamma / T), as in `twoview.methods.losses.kernel`."""

    def kernel(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log = squared ** (gamma / 2) if gamma not in (1, 2) else np.sqrt(squared) if gamma == 1 else squared.copy()
        log *= -1 / temperature
        return log, log * (gamma / 2) / squared

    return kernel


def mixed(one: Kernel, other: Kernel) -> Kernel:
    """The mean of two kernels."""

    def kernel(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (log_one, slope_one), (log_other, slope_other) = one(squared), other(squared)
        value_one, value_other = np.exp(log_one), np.exp(log_other)
        both = value_one + value_other
        return np.log(both / 2), (value_one * slope_one + value_other * slope_other) / both

    return kernel


def infonce(kernel: Kernel) -> Objective:
    """-sum_ik pi_ik log K_ik + sum_i p_i log sum_k p_k K_ik, p the sums of pi."""

    def objective(z: np.ndarray, pi: np.ndarray, rounded: float) -> tuple[float, np.ndarray]:
        log, slope = kernel(_squared(z, rounded))
        p = pi.sum(1)
        weighted = np.exp(log) * p  # a node is its own negative too, with K near 1: no sum is 0
        sums = weighted.sum(1)
        value = p @ np.log(sums) - (pi * log).sum()
        return float(value), _pulled(z, (weighted * (p / sums)[:, None] - pi) * slope)

    return objective


def infonce_among(kernel: Kernel, sets: np.ndarray) -> Objective:
    """With few negatives: sum_ik pi_ik (-log K_ik + log(K_ik + sum_m K_im)), m a set of negatives, the mean over sets.

    sets: float64 (sets, n), how often each node is in each.
    """

    def objective(z: np.ndarray, pi: np.ndarray, rounded: float) -> tuple[float, np.ndarray]:
        log, slope = kernel(_squared(z, rounded))
        values = np.exp(log)
        candidates = values[:, :, None] + (values @ sets.T)[:, None]  # (n, n, sets)
        value = (pi * (np.log(candidates).mean(2) - log)).sum()
        shares = pi[:, :, None] / candidates / len(sets)
        return float(value), _pulled(z, ((shares.sum(2) + shares.sum(1) @ sets) * values - pi) * slope)

    return objective


def _squared(z: np.ndarray, rounded: float) -> np.ndarray:
    lengths = np.square(z).sum(1)
    return np.asarray(np.maximum(lengths[:, None] + lengths - 2 * z @ z.T, 0) + rounded**2)


def _pulled(z: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """The gradient over z of a loss whose slope over the squared distances, (n, n), is pull."""
    both = pull + pull.T
    return np.asarray(2 * (both.sum(1)[:, None] * z - both @ z))


def mean(one: Objective, other: Objective) -> Objective:
    """The mean of two losses of one embedding."""

    def objective(z: np.ndarray, pi: np.ndarray, rounded: float) -> tuple[float, np.ndarray]:
        (value_one, slope_one), (value_other, slope_other) = one(z, pi, rounded), other(z, pi, rounded)
        return (value_one + value_other) / 2, (slope_one + slope_other) / 2

    return objective


def halves(one: Objective, other: Objective) -> Objective:
    """The mean of a loss of the embedding's first half of coordinates and a loss of its second half."""

    def objective(z: np.ndarray, pi: np.ndarray, rounded: float) -> tuple[float, np.ndarray]:
        left, right = np.hsplit(z, 2)
        (value_one, slope_one), (value_other, slope_other) = one(left, pi, rounded), other(right, pi, rounded)
        return (value_one + value_other) / 2, np.hstack([slope_one, slope_other]) / 2

    return objective


def minimum(graph: Graph, objective: Objective, starts: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (n, d) of unit rows: the lowest of the minima that L-BFGS finds from these starts, (n, d) each."""
    return lowest(graph, objective, [descend(graph, objective, start) for start in starts])


def lowest(graph: Graph, objective: Objective, found: Sequence[np.ndarray]) -> np.ndarray:
    """Of embeddings, (n, d) each of unit rows, the one whose loss is the lowest."""
    return min(found, key=lambda z: objective(z, graph.pi, ROUNDED[-1])[0])


def random_starts(graph: Graph, dim: int, count: int) -> list[np.ndarray]:
    """float64 (n, dim) each, of the same draws at every call."""
    return list(np.random.Generator(np.random.Philox(2)).standard_normal((count, len(graph), dim)))


def descend(graph: Graph, objective: Objective, z: np.ndarray) -> np.ndarray:
    """float64 (n, d) of unit rows: the minimum that L-BFGS finds from z, (n, d), at every r in turn."""
    pi, shape = graph.pi, z.shape
    for rounded in ROUNDED:

        def on_the_sphere(flat: np.ndarray, rounded: float = rounded) -> tuple[float, np.ndarray]:
            z, lengths = _unit(flat.reshape(shape))
            value, slope = objective(z, pi, rounded)
            return value, ((slope - (slope * z).sum(1, keepdims=True) * z) / lengths).ravel()

        z = _unit(z)[0]
        z = minimize(on_the_sphere, z.ravel(), jac=True, method="L-BFGS-B", options=PRECISE).x.reshape(shape)
    return _unit(z)[0]


def _unit(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.linalg.norm(z, axis=1, keepdims=True)
    return z / lengths, lengths
