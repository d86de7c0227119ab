"""Contrastive embeddings and k-means beside spectral clustering on the same graph, for each kernel of Kernel-InfoNCE.

Tan et al. 2024 hold the two to be one method. Here both get the same graph of nearest neighbours and as many
coordinates as there are clusters: scikit-learn's `SpectralClustering` from eigenvectors, ours as free embeddings of the
nodes learned from positive pairs, the edges.
"""

import warnings
from functools import partial

import numpy as np
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import load_digits, make_blobs, make_circles, make_moons
from sklearn.metrics import adjusted_rand_score

from bench.theory.claims import Claim, verdict
from bench.theory.embedding import PairLoss, embed
from bench.theory.graph import Graph, of_neighbours
from methods.losses.kernel import concat, kernel_infonce, kernel_sum, mixed_kernel
from methods.losses.spectral import spectral

# The temperature and the weight that recipes of kernel-infonce have where none is given.
TEMPERATURE, WEIGHT = 0.5, 0.5
MIXED = {"gammas": (1.0, 2.0), "temperatures": (TEMPERATURE, TEMPERATURE), "weight": WEIGHT}
KERNELS: dict[str, PairLoss] = {
    "Gaussian": partial(kernel_infonce, gamma=2, temperature=TEMPERATURE),
    "Laplacian": partial(kernel_infonce, gamma=1, temperature=TEMPERATURE),
    "gamma 0.5": partial(kernel_infonce, gamma=0.5, temperature=TEMPERATURE),
    "sum of losses": partial(kernel_sum, **MIXED),  # type: ignore[arg-type]
    "sum of kernels": partial(mixed_kernel, **MIXED),  # type: ignore[arg-type]
    "concatenation": partial(concat, **MIXED, joint=True),  # type: ignore[arg-type]
    "spectral contrastive loss": spectral,
}
STEPS, BATCH, SEED = 500, 128, 0  # one seed: all of this takes a minute of one core
NEAR = 0.05  # of the adjusted Rand index that may be lost
PAPER = "Tan et al. 2024: contrastive learning is spectral clustering (found, secondary); k-means beside it is ours"


def data() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> points (n, d), and the cluster that each was made in; of digits, its class."""
    return {
        "rings": make_circles(400, factor=0.5, noise=0.05, random_state=0),
        "moons": make_moons(400, noise=0.05, random_state=0),
        "blobs": make_blobs(400, centers=4, cluster_std=1.0, random_state=0),
        "digits": load_digits(return_X_y=True),
    }


def run() -> list[Claim]:
    """One claim a kernel, over all data."""
    tasks = {name: (of_neighbours(points), truth) for name, (points, truth) in data().items()}
    theirs = {name: _index(truth, spectral_clusters(graph, truth.max() + 1)) for name, (graph, truth) in tasks.items()}
    return [_claim(kernel, tasks, theirs) for kernel in KERNELS]


def _claim(kernel: str, tasks: dict[str, tuple[Graph, np.ndarray]], theirs: dict[str, float]) -> Claim:
    ours = {
        name: _index(truth, contrastive_clusters(graph, KERNELS[kernel], truth.max() + 1, SEED))
        for name, (graph, truth) in tasks.items()
    }
    each = ", ".join(f"{name} {ours[name]:.2f} beside {theirs[name]:.2f}" for name in tasks)
    names = ", ".join(tasks)
    return Claim(
        f"Kernel-InfoNCE, {kernel}: k-means on the embedding finds the clusters that spectral clustering finds",
        PAPER,
        f"adjusted Rand index, ours beside scikit-learn's: {each}; {STEPS} steps of Adam, seed {SEED}",
        f"on each at least scikit-learn's less {NEAR:g} (the threshold is ours)",
        verdict(all(ours[name] >= theirs[name] - NEAR for name in tasks)),
        {
            f"contrastive ({names})": np.array(list(ours.values())),
            f"spectral clustering ({names})": np.array(list(theirs.values())),
        },
    )


def _index(truth: np.ndarray, found: np.ndarray) -> float:
    return float(adjusted_rand_score(truth, found))


def spectral_clusters(graph: Graph, clusters: int) -> np.ndarray:
    """int (n,), by scikit-learn, which warns of a graph in several parts: those are what it is to find."""
    method = SpectralClustering(clusters, affinity="precomputed", random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        found: np.ndarray = method.fit_predict(graph.weights)
    return found


def contrastive_clusters(graph: Graph, loss: PairLoss, clusters: int, seed: int) -> np.ndarray:
    """int (n,), by k-means of the unit embeddings, which have as many coordinates as there are clusters."""
    z = embed(graph, loss, clusters, STEPS, BATCH, seed)
    return k_means(z / np.linalg.norm(z, axis=1, keepdims=True), clusters, seed)


def k_means(points: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """int (n,), the best of ten starts."""
    found: np.ndarray = KMeans(clusters, n_init=10, random_state=seed).fit_predict(points)
    return found
