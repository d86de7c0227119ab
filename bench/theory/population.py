"""Kernel-InfoNCE of a whole graph, the limit of large batches: its value, its gradient and its minimum, in float64.

Nothing is random here, unlike in training: positive pairs are weighted by their probability, and every node is a
negative, weighted by its own probability. The result is a function of free unit embeddings, a few hundred numbers. It
is smooth except for the cusp that kernels with gamma below 2 have at distance 0; so a distance d is replaced by
sqrt(d^2 + r^2) with a small r. The gradients are written out, because that is six times faster than autograd at these
sizes. Tests check the gradients, and compare the values with the suite's own losses.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize

from twoview.bench.theory.graph import Graph

# squared distances -> log K and its derivative
Kernel = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# unit embeddings (n, d), probabilities of the graph's pairs (n, n), and r -> the loss and its gradient (n, d)
Objective = Callable[[np.ndarray, np.ndarray, float], tuple[float, np.ndarray]]

ROUNDED = (0.3, 0.03)  # values of r, from a landscape without cusps to nearly the kernel's
# options of scipy's L-BFGS-B
PRECISE = {"maxiter": 500, "ftol": 1e-9, "gtol": 1e-8}


def exponential(gamma: float, temperature: float) -> Kernel:
    """Return the kernel K = exp(-d^gamma / T), as in `twoview.methods.losses.kernel`."""

    def kernel(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log = squared ** (gamma / 2) if gamma not in (1, 2) else np.sqrt(squared) if gamma == 1 else squared.copy()
        log *= -1 / temperature
        return log, log * (gamma / 2) / squared

    return kernel


def mixed(one: Kernel, other: Kernel) -> Kernel:
    """Return the mean of two kernels."""

    def kernel(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (log_one, slope_one), (log_other, slope_other) = one(squared), other(squared)
        value_one, value_other = np.exp(log_one), np.exp(log_other)
        both = value_one + value_other
        return np.log(both / 2), (value_one * slope_one + value_other * slope_other) / both

    return kernel


def infonce(kernel: Kernel) -> Objective:
    """Return the loss -sum_ik pi_ik log K_ik + sum_i p_i log sum_k p_k K_ik, where p_i = sum_k pi_ik."""

    def objective(z: np.ndarray, pi: np.ndarray, rounded: float) -> tuple[float, np.ndarray]:
        log, slope = kernel(_squared(z, rounded))
        p = pi.sum(1)
        weighted = np.exp(log) * p  # a node is its own negative too, with K near 1: no sum is 0
        sums = weighted.sum(1)
        value = p @ np.log(sums) - (pi * log).sum()
        return float(value), _pulled(z, (weighted * (p / sums)[:, None] - pi) * slope)

    return objective


def infonce_among(kernel: Kernel, sets: np.ndarray) -> Objective:
    """Return InfoNCE with a finite number of negatives, as a function (z, pi, r) -> (loss, gradient).

    The loss is sum_ik pi_ik (-log K_ik + log(K_ik + sum_m K_im)), averaged over the sets of negatives; m runs over one
    set. pi_ik is the probability of the positive pair (i, k), and K_ik the kernel of its embeddings.

    sets: float64 (number of sets, n), how often each of the n nodes occurs in each set.
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
    """Return the squared distances of all pairs plus r^2, (n, n). z: (n, d)."""
    lengths = np.square(z).sum(1)
    return np.asarray(np.maximum(lengths[:, None] + lengths - 2 * z @ z.T, 0) + rounded**2)


def _pulled(z: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """Return the gradient (n, d) of a loss whose derivative with respect to the squared distances is pull, (n, n)."""
    # d|z_i - z_k|^2 / dz_i = 2 (z_i - z_k), and each pair is in pull as (i, k) and as (k, i).
    both = pull + pull.T
    return np.asarray(2 * (both.sum(1)[:, None] * z - both @ z))


def mean(one: Objective, other: Objective) -> Objective:
    """Return the mean of two losses of the same embedding."""

    def objective(z: np.ndarray, pi: np.ndarray, rounded: float) -> tuple[float, np.ndarray]:
        (value_one, slope_one), (value_other, slope_other) = one(z, pi, rounded), other(z, pi, rounded)
        return (value_one + value_other) / 2, (slope_one + slope_other) / 2

    return objective


def halves(one: Objective, other: Objective) -> Objective:
    """Return the mean of two losses, of the first and of the second half of the embedding's coordinates."""

    def objective(z: np.ndarray, pi: np.ndarray, rounded: float) -> tuple[float, np.ndarray]:
        left, right = np.hsplit(z, 2)
        (value_one, slope_one), (value_other, slope_other) = one(left, pi, rounded), other(right, pi, rounded)
        return (value_one + value_other) / 2, np.hstack([slope_one, slope_other]) / 2

    return objective


def minimum(graph: Graph, objective: Objective, starts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the lowest minimum that L-BFGS finds from these starts, (n, d) each: float64 (n, d) with unit rows."""
    return lowest(graph, objective, [descend(graph, objective, start) for start in starts])


def lowest(graph: Graph, objective: Objective, found: Sequence[np.ndarray]) -> np.ndarray:
    """Return the embedding with the lowest loss. found: (n, d) each, with unit rows."""
    return min(found, key=lambda z: objective(z, graph.pi, ROUNDED[-1])[0])


def random_starts(graph: Graph, dim: int, count: int) -> list[np.ndarray]:
    """Return random starts, float64 (n, dim) each, which are the same at every call."""
    return list(np.random.Generator(np.random.Philox(2)).standard_normal((count, len(graph), dim)))


def descend(graph: Graph, objective: Objective, z: np.ndarray) -> np.ndarray:
    """Return the minimum that L-BFGS finds from z, (n, d), with each r in turn: float64 (n, d) with unit rows."""
    pi, shape = graph.pi, z.shape
    for rounded in ROUNDED:

        def on_the_sphere(flat: np.ndarray, rounded: float = rounded) -> tuple[float, np.ndarray]:
            # The loss sees z / |z|, so the gradient for z is the tangential part of the loss's, divided by |z|.
            z, lengths = _unit(flat.reshape(shape))
            value, slope = objective(z, pi, rounded)
            return value, ((slope - (slope * z).sum(1, keepdims=True) * z) / lengths).ravel()

        z = _unit(z)[0]
        z = minimize(on_the_sphere, z.ravel(), jac=True, method="L-BFGS-B", options=PRECISE).x.reshape(shape)
    return _unit(z)[0]


def _unit(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of unit length, (n, d), and the lengths that they had, (n, 1)."""
    lengths = np.linalg.norm(z, axis=1, keepdims=True)
    return z / lengths, lengths
