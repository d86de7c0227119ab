"""A finite graph whose nodes are views and whose edges are positive pairs: its eigenvectors, and drawn pairs."""

from functools import cached_property

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.csgraph import laplacian
from sklearn.neighbors import kneighbors_graph


class Graph:
    """A graph of n nodes. weights: float64 (n, n), symmetric, proportional to the probability of each positive pair.

    Raises ValueError, naming the first entry or node at fault, if weights are negative, not finite or not symmetric, or
    if a node is isolated, which means that it has no pair with another node.
    """

    def __init__(self, weights: np.ndarray) -> None:
        weights = np.asarray(weights, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or len(weights) < 2:
            raise ValueError(f"weights must have shape (n, n) with n >= 2, got {weights.shape}")
        for wrong, words in (
            (~(np.isfinite(weights) & (weights >= 0)), "finite and 0 or above"),
            (~np.isclose(weights, weights.T, rtol=1e-12, atol=0), "symmetric"),
        ):
            if wrong.any():
                i, k = np.argwhere(wrong)[0]
                pair = f"{weights[i, k]:g} at [{i}, {k}] and {weights[k, i]:g} at [{k}, {i}]"
                raise ValueError(f"weights must be {words}, got {pair}")
        if not (alone := weights.sum(1) - weights.diagonal() > 0).all():
            raise ValueError(f"weights must leave no node isolated, got the isolated node {np.argmin(alone)}")
        self.weights = weights

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def pi(self) -> np.ndarray:
        """The probability of each positive pair, float64 (n, n), with sum 1."""
        return np.asarray(self.weights / self.weights.sum())

    def bottom(self, count: int, normalized: bool = False) -> np.ndarray:
        """Return the eigenvectors of the smallest eigenvalues after the constant vector's, float64 (n, count).

        They belong to the Laplacian D - pi or, if normalized, to the random walk's Laplacian I - D^-1 pi, which has the
        same constant vector. Raises ValueError unless 1 <= count < n.
        """
        if not 1 <= count < len(self):
            raise ValueError(f"count must be at least 1 and below the {len(self)} nodes, got {count}")
        vectors = eigh(laplacian(self.pi), np.diag(self.pi.sum(1)) if normalized else None)[1]
        return np.asarray(vectors[:, 1 : count + 1])

    def draw(self, rng: np.random.Generator, pairs: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw positive pairs independently of each other and return their nodes, int64 (pairs,) twice."""
        drawn = np.searchsorted(self._cumulative, rng.random(pairs) * self._cumulative[-1], side="right")
        return self._edges[0][drawn], self._edges[1][drawn]

    @cached_property
    def _edges(self) -> tuple[np.ndarray, ...]:
        """The rows and columns of the weights above 0."""
        return np.nonzero(self.weights)

    @cached_property
    def _cumulative(self) -> np.ndarray:
        """The cumulative sum of the edges' weights."""
        return np.asarray(self.weights[self._edges].cumsum())


def augmentation_graph(probabilities: np.ndarray) -> Graph:
    """Return the augmentation graph of N equally probable images, whose nodes are the views that they can become.

    probabilities: A, float64 (N, n), where A[i, k] is the probability that image i is augmented to view k. A positive
    pair consists of two views drawn independently from one image, so pi = A^T A / N.
    Raises ValueError, naming the first entry or row at fault, if an entry is negative or not finite, or if a row does
    not sum to 1.
    """
    if (wrong := ~(np.isfinite(probabilities) & (probabilities >= 0))).any():
        i, k = np.argwhere(wrong)[0]
        raise ValueError(f"probabilities must be finite and 0 or above, got {probabilities[i, k]:g} at [{i}, {k}]")
    if not (one := np.isclose(sums := probabilities.sum(1), 1)).all():
        i = np.argmin(one)
        raise ValueError(f"each row of probabilities must sum to 1, got {sums[i]:g} for row {i}")
    return Graph(probabilities.T @ probabilities)


def pair_weights(i: np.ndarray, k: np.ndarray, nodes: int) -> np.ndarray:
    """Return how often two nodes were a pair in a batch of B pairs: float64 (nodes, nodes), symmetric, with sum 2B."""
    counts = np.zeros((nodes, nodes))
    np.add.at(counts, (i, k), 1)
    return counts + counts.T


def neighbor_graph(points: np.ndarray, neighbors: int = 10) -> Graph:
    """Return the graph that connects each point with its nearest neighbors.

    points: (n, d). neighbors: number of nearest neighbors per point. Raises ValueError unless 1 <= neighbors < n.
    """
    if not 1 <= neighbors < len(points):
        raise ValueError(f"neighbors must be at least 1 and below the {len(points)} points, got {neighbors}")
    nearest = kneighbors_graph(points, neighbors).toarray()
    return Graph(np.maximum(nearest, nearest.T))
