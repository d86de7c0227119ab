"""K-means with a uniform prior (Assran et al. 2023): which sizes clusters get under losses that maximize volume.

Four blobs of unequal sizes, far apart, form a graph of nearest neighbors. Each method embeds its nodes freely, and
k-means, or the method's own prototypes, form one cluster per blob. A method that follows the data gets clusters of the
blobs' sizes; one with a uniform prior gets clusters of more equal sizes. Prototypes start at spectral clustering's
clusters, which are the blobs, whatever the prior is, so only the prior moves them away.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.datasets import make_blobs

from twoview.bench.evidence.claims import Claim, Scatter, verdict
from twoview.bench.theory.clusters import k_means, spectral_clusters
from twoview.bench.theory.embedding import PairLoss, embed, embed_to_prototypes
from twoview.bench.theory.graph import Graph, neighbor_graph
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.msn import assign
from twoview.methods.losses.vicreg import vicreg

SIZES = (320, 160, 80, 40)
CENTERS = ((-8, -8), (-8, 8), (8, -8), (8, 8))  # centers of the blobs, whose standard deviation is 1
K = len(SIZES)
BLOBS, EQUAL = np.array(SIZES) / sum(SIZES), np.full(K, 1 / K)
NEAR = 0.05  # largest total variation distance of shares that count as the same
DIM, STEPS, BATCH, SEEDS = 8, 1000, 128, 3
TEMPERATURE = 0.1  # temperature of MSN's assignments
THESIS = "Assran et al. 2023: a hidden uniform cluster prior (found; the propositions could not be read)"
PRIOR = "Assran et al. 2023: a prior other than the uniform one (found); that it is met here is inferred"
CONTROL = "this project's control"

Learned = tuple[np.ndarray, np.ndarray]  # embeddings and prototypes
Clustering = Callable[[int], np.ndarray]  # seed -> clusters, int (n,), below K


def run() -> list[Claim]:
    """Return all claims."""
    points, _ = make_blobs(list(SIZES), centers=CENTERS, random_state=0)
    graph = neighbor_graph(points)
    methods: dict[str, Clustering] = {
        "SimCLR": partial(_embedded, graph, partial(nt_xent, temperature=0.1)),
        "VICReg": partial(_embedded, graph, lambda z1, z2: vicreg(z1, z2)["loss"]),
    }
    start = spectral_clusters(graph, K)

    def learned(prior: np.ndarray, weight: float) -> list[Learned]:
        """Return MSN's embeddings and prototypes of each seed."""
        given = (graph, start, torch.from_numpy(prior), weight)
        return [embed_to_prototypes(*given, DIM, STEPS, BATCH, seed) for seed in range(SEEDS)]

    msn, pmsn, without = learned(EQUAL, 1.0), learned(BLOBS, 1.0), learned(EQUAL, 0.0)
    controls: dict[str, Clustering] = {
        "k-means of the points": partial(k_means, points, K),
        "spectral clustering of the graph": lambda seed: start,
    }
    return [
        *(even(name, points, _of_all_seeds(clustering)) for name, clustering in methods.items()),
        even("MSN", points, _nearest(msn)),
        met("MSN's mean assignment is uniform", _mean_assignment(msn), EQUAL),
        met("PMSN's mean assignment is its prior, the blobs' shares", _mean_assignment(pmsn), BLOBS),
        as_blobs("PMSN, of that prior,", PRIOR, points, _nearest(pmsn)),
        as_blobs("MSN without the prior's term", CONTROL, points, _nearest(without)),
        *(as_blobs(name, CONTROL, points, _of_all_seeds(clustering)) for name, clustering in controls.items()),
    ]


def even(name: str, points: np.ndarray, found: list[np.ndarray]) -> Claim:
    """Return the claim that a method's clusters are nearer to equal sizes than to the blobs' sizes.

    points: (n, 2). found: for each seed the clusters, int (n,), below K.
    """
    ours = mean_shares(found)
    return Claim(
        f"{name}'s clusters are nearer to equal sizes than to the blobs' sizes",
        THESIS,
        _measured(ours, found),
        "a smaller distance from equal shares than from the blobs'",
        verdict(variation(ours, EQUAL) < variation(ours, BLOBS)),
        {"clusters": ours, "blobs": BLOBS, "equal": EQUAL},
        _panels(points, found),
    )


def as_blobs(name: str, source: str, points: np.ndarray, found: list[np.ndarray]) -> Claim:
    """Return the claim that a method makes clusters of the blobs' sizes. For the arguments see `even`."""
    ours = mean_shares(found)
    return Claim(
        f"{name} makes clusters of the blobs' sizes",
        source,
        _measured(ours, found),
        f"a distance of at most {NEAR:g} from the blobs' shares (the threshold is ours)",
        verdict(variation(ours, BLOBS) <= NEAR),
        {"clusters": ours, "blobs": BLOBS, "equal": EQUAL},
        _panels(points, found),
    )


def met(name: str, ours: np.ndarray, prior: np.ndarray) -> Claim:
    """Return the claim that a mean assignment is the prior.

    ours: (K,), the mean probability of each prototype. prior: (K,).
    """
    return Claim(
        name,
        PRIOR,
        f"shares {_written(ours)}: total variation distance {variation(ours, prior):.2f} from {_written(prior)}; "
        f"means of {SEEDS} seeds",
        f"a distance of at most {NEAR:g} (the threshold is ours)",
        verdict(variation(ours, prior) <= NEAR),
        {"mean assignment": ours, "prior": prior},
    )


def _measured(ours: np.ndarray, found: list[np.ndarray]) -> str:
    """Return a sentence about mean shares and their distances from equal shares and from the blobs'."""
    return (
        f"shares {_written(ours)}: total variation distance {variation(ours, EQUAL):.2f} from equal shares and "
        f"{variation(ours, BLOBS):.2f} from the blobs' shares {_written(BLOBS)}; means of {len(found)} seeds"
    )


def _written(ours: np.ndarray) -> str:
    """Return shares as text."""
    return ", ".join(f"{share:.2f}" for share in ours)


def _panels(points: np.ndarray, found: list[np.ndarray]) -> dict[str, Scatter]:
    """Return one panel per seed, with every second point and its cluster."""
    x, y = points[::2].round(3).T
    return {f"seed {seed}": Scatter(x, y, clusters[::2]) for seed, clusters in enumerate(found)}


def _of_all_seeds(clustering: Clustering) -> list[np.ndarray]:
    """Return the clusters of each seed."""
    return [clustering(seed) for seed in range(SEEDS)]


def _embedded(graph: Graph, loss: PairLoss, seed: int) -> np.ndarray:
    """Return the k-means clusters of the embeddings that minimize the loss."""
    return k_means(embed(graph, loss, DIM, STEPS, BATCH, seed), K, seed)


def _nearest(learned: list[Learned]) -> list[np.ndarray]:
    """Return, for each seed, the prototype that is nearest to each node by cosine."""
    return [p.argmax(1) for p in map(_assignments, learned)]


def _mean_assignment(learned: list[Learned]) -> np.ndarray:
    """Return each prototype's mean probability over the nodes, largest first, as means over seeds.

    MSN's prior applies to this distribution.
    """
    return np.asarray(np.mean([np.sort(p.mean(0))[::-1] for p in map(_assignments, learned)], axis=0))


def _assignments(learned: Learned) -> np.ndarray:
    """Return each node's probabilities of the prototypes, float64 (n, K)."""
    z, prototypes = map(torch.from_numpy, learned)
    return np.asarray(assign(z, prototypes, TEMPERATURE).exp())


def mean_shares(found: list[np.ndarray]) -> np.ndarray:
    """Return the clusters' shares, float64 (K,), largest first, as means over seeds. found: int (n,) each, below K."""
    counts = [np.sort(np.bincount(clusters, minlength=K))[::-1] / len(clusters) for clusters in found]
    return np.asarray(np.mean(counts, axis=0))


def variation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the total variation distance of two distributions, from 0 to 1."""
    return float(np.abs(one - other).sum() / 2)
