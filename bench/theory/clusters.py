"""Compare contrastive embeddings with spectral clustering of the same graph, for each kernel of Kernel-InfoNCE.

According to Tan et al. 2024 the two are one method. Here both get the same graph of nearest neighbors and one
coordinate per cluster. scikit-learn's `SpectralClustering` takes the coordinates from eigenvectors. Ours are the
minimum of the loss over free embeddings of the nodes, with the graph's edges as positive pairs and all nodes as
negatives, and are clustered with k-means.

The protocol is the same for all data and kernels:
* The temperature is T = 2^gamma, so that two opposite unit vectors have K = 1/e. Every kernel then reaches over the
  whole sphere, just as the trace of spectral clustering includes all pairs. At lower temperatures a node is repelled
  only by nodes near it, and a long cluster has a lower loss if it fills the sphere; the last claim is about these
  temperatures. (Recipes have T = 0.5.)
* The concatenation has twice as many coordinates, as in the paper.
* The loss has many minima: on the rings, random starts wind around the circle. One of the three starts is therefore the
  eigenvectors themselves, and the lowest minimum counts. So where a claim fails, the loss is lower elsewhere than near
  spectral clustering's solution. The result of random starts alone is reported as well.
"""

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import load_digits, make_blobs, make_circles, make_moons
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from twoview.bench.evidence.claims import Claim, Scatter, verdict
from twoview.bench.theory.graph import Graph, neighbor_graph
from twoview.bench.theory.parallel import side_by_side
from twoview.bench.theory.population import (
    Objective,
    descend,
    exponential,
    halves,
    infonce,
    lowest,
    mean,
    mixed,
    random_starts,
)

GAUSSIAN, LAPLACIAN, ROOT = (exponential(gamma, 2**gamma) for gamma in (2, 1, 0.5))
CONCATENATION = "concatenation"
# name -> the loss of a whole graph
KERNELS: dict[str, Objective] = {
    "Gaussian": infonce(GAUSSIAN),
    "Laplacian": infonce(LAPLACIAN),
    "gamma 0.5": infonce(ROOT),
    "sum of losses": mean(infonce(LAPLACIAN), infonce(GAUSSIAN)),
    "sum of kernels": infonce(mixed(LAPLACIAN, GAUSSIAN)),
    CONCATENATION: halves(infonce(LAPLACIAN), infonce(GAUSSIAN)),
}
TEMPERATURES = (0.1, 0.25, 0.5, 1.0, 4.0, 16.0)
RANDOM = 2  # number of random starts
POINTS = 200  # points of each dataset
NEAR = 0.05  # largest amount by which the adjusted Rand index may be lower
ALIKE = 0.9  # smallest adjusted Rand index of two clusterings that count as the same
PAPER = "Tan et al. 2024: contrastive learning is spectral clustering (found, secondary); comparing by k-means is ours"


@dataclass(frozen=True)
class Task:
    """Points to be clustered, (n, d), and their graph of nearest neighbors.

    truth: int (n,), the cluster in which each point was made, or the class of a digit. spectral: int (n,), the clusters
    that spectral clustering finds.
    """

    points: np.ndarray
    truth: np.ndarray
    graph: Graph
    spectral: np.ndarray

    @property
    def clusters(self) -> int:
        """The number of clusters."""
        return int(self.truth.max()) + 1


@dataclass(frozen=True)
class Found:
    """The embedding z at the lowest minimum, (n, d), with rows of unit length.

    clusters: int (n,), k-means clusters of z. at_random: int (n,), the clusters of the lowest minimum from random
    starts only.
    """

    z: np.ndarray
    clusters: np.ndarray
    at_random: np.ndarray


def data() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return name -> points and truth, as in `Task`."""
    digits, classes = load_digits(return_X_y=True)
    each = np.concatenate([np.flatnonzero(classes == one)[: POINTS // 10] for one in range(10)])
    return {
        "rings": make_circles(POINTS, factor=0.5, noise=0.05, random_state=0),
        "moons": make_moons(POINTS, noise=0.05, random_state=0),
        "blobs": make_blobs(POINTS, centers=4, cluster_std=1.0, random_state=0),
        "digits": (digits[each], classes[each]),
    }


def run() -> list[Claim]:
    """Return one claim per kernel, over all data, and one on the temperature."""
    tasks = {}
    for name, (points, truth) in data().items():
        graph = neighbor_graph(points)
        tasks[name] = Task(points, truth, graph, spectral_clusters(graph, truth.max() + 1))
    return [*side_by_side(partial(kernel, tasks=tasks), KERNELS), temperature(tasks)]


def kernel(name: str, tasks: dict[str, Task]) -> Claim:
    """Return the claim on one kernel: its clusters are those that spectral clustering finds."""
    found = {of: contrastive(task, KERNELS[name], 2 if name == CONCATENATION else 1) for of, task in tasks.items()}
    ours = _indices(tasks, {of: one.clusters for of, one in found.items()})
    at_random = _indices(tasks, {of: one.at_random for of, one in found.items()})
    theirs = _indices(tasks, {of: task.spectral for of, task in tasks.items()})
    agreement = np.array([adjusted_rand_score(task.spectral, found[of].clusters) for of, task in tasks.items()])
    each = "; ".join(
        f"{of} {one:.2f} and {other:.2f} (between the two {both:.2f}, ours from random starts alone {alone:.2f})"
        for of, one, other, both, alone in zip(tasks, ours, theirs, agreement, at_random, strict=True)
    )
    scatter = {of: _panel(task.points, found[of].clusters) for of, task in tasks.items()}
    scatter |= {f"{of}, embedded": _panel(found[of].z, found[of].clusters) for of in tasks}
    names = ", ".join(tasks)
    return Claim(
        f"Kernel-InfoNCE, {name}: k-means on the embedding finds the clusters that spectral clustering finds",
        PAPER,
        f"adjusted Rand index to the true clusters, ours and scikit-learn's: {each}; lowest of {RANDOM + 1} minima, "
        "T = 2^gamma",
        f"on each dataset at least scikit-learn's index minus {NEAR:g} (the threshold is ours)",
        verdict(bool((ours >= theirs - NEAR).all())),
        {
            f"contrastive ({names})": ours,
            "from random starts alone": at_random,
            "spectral clustering": theirs,
            "contrastive against spectral clustering": agreement,
        },
        scatter,
    )


def temperature(tasks: dict[str, Task]) -> Claim:
    """Return the claim that the clusters are spectral clustering's at every temperature."""

    def at_each(task: Task) -> list[Found]:
        return [contrastive(task, infonce(exponential(2, t))) for t in TEMPERATURES]

    found = dict(zip(tasks, side_by_side(at_each, tasks.values()), strict=True))
    agreement = {
        of: np.array([adjusted_rand_score(task.spectral, one.clusters) for one in found[of]])
        for of, task in tasks.items()
    }
    each = "; ".join(f"{of} {', '.join(f'{one:.2f}' for one in line)}" for of, line in agreement.items())
    listed = ", ".join(f"{t:g}" for t in TEMPERATURES)
    return Claim(
        "With the Gaussian kernel they are spectral clustering's at every temperature",
        f"{PAPER}; the paper's identity holds at every temperature",
        f"adjusted Rand index to spectral clustering's clusters at T {listed}: {each}; SimCLR's temperature is T / 2",
        f"at least {ALIKE:g} at every temperature (the threshold is ours)",
        verdict(all((line >= ALIKE).all() for line in agreement.values())),
        {"over T": np.array(TEMPERATURES), **agreement},
        {
            f"rings, T {t:g}": _panel(tasks["rings"].points, one.clusters)
            for t, one in zip(TEMPERATURES, found["rings"], strict=True)
        },
    )


def contrastive(task: Task, objective: Objective, copies: int = 1) -> Found:
    """Minimize the loss over embeddings with `copies` coordinates per cluster, and cluster the minimum with k-means."""
    graph, clusters = task.graph, task.clusters
    # `bottom` omits the constant eigenvector, which comes first.
    eigenvectors = np.hstack([np.ones((len(graph), 1)), graph.bottom(clusters - 1, normalized=True)])
    starts = [np.tile(eigenvectors, copies), *random_starts(graph, copies * clusters, RANDOM)]
    minima = [descend(graph, objective, start) for start in starts]
    z = lowest(graph, objective, minima)
    at_random = lowest(graph, objective, minima[1:])
    return Found(z, k_means(z, clusters, 0), k_means(at_random, clusters, 0))


def spectral_clusters(graph: Graph, clusters: int) -> np.ndarray:
    """Return the clusters that scikit-learn's spectral clustering finds, int (n,).

    Its warning about a graph in several parts is silenced, because these parts are what it should find.
    """
    method = SpectralClustering(clusters, affinity="precomputed", random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        found: np.ndarray = method.fit_predict(graph.weights)
    return found


def k_means(points: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Return the clusters of k-means, int (n,), the best of ten starts."""
    found: np.ndarray = KMeans(clusters, n_init=10, random_state=seed).fit_predict(points)
    return found


def _indices(tasks: dict[str, Task], found: dict[str, np.ndarray]) -> np.ndarray:
    """Return, for each task, the adjusted Rand index of these clusters to the truth."""
    return np.array([adjusted_rand_score(task.truth, found[of]) for of, task in tasks.items()])


def _panel(points: np.ndarray, label: np.ndarray) -> Scatter:
    """Return the points as they are if they are 2-D, else in the plane of their first two principal axes."""
    plane = points if points.shape[1] == 2 else PCA(2).fit_transform(points)
    x, y = plane.round(3).T
    return Scatter(x, y, label)
