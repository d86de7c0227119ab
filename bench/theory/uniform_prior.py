"""K-means with a uniform prior (Assran et al. 2023): which sizes clusters get under losses that maximise volume.

Four blobs of unequal sizes, far apart, are a graph of nearest neighbours. Each method embeds its nodes freely, and
k-means, or the method's own prototypes, make as many clusters as there are blobs. What follows the data gets the blobs'
sizes, what has a uniform prior gets clusters more alike.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.datasets import make_blobs

from bench.theory.claims import Claim, verdict
from bench.theory.clusters import k_means, spectral_clusters
from bench.theory.embedding import PairLoss, embed, embed_to_prototypes
from bench.theory.graph import Graph, of_neighbours
from methods.losses.infonce import nt_xent
from methods.losses.msn import assign
from methods.losses.vicreg import vicreg

SIZES = (320, 160, 80, 40)
CENTRES = ((-8, -8), (-8, 8), (8, -8), (8, 8))  # with a standard deviation of 1
K = len(SIZES)
BLOBS, EQUAL = np.array(SIZES) / sum(SIZES), np.full(K, 1 / K)
NEAR = 0.05  # of the total variation
DIM, STEPS, BATCH, SEEDS = 8, 1000, 128, 3
TEMPERATURE = 0.1  # of MSN's assignments
THESIS = "Assran et al. 2023: a hidden uniform cluster prior (found; the propositions could not be read)"
PRIOR = "Assran et al. 2023: another prior in the uniform one's place (found); that it is met here is inferred"
CONTROL = "this project's control"

Learned = tuple[np.ndarray, np.ndarray]  # embeddings and prototypes
Shares = Callable[[int], np.ndarray]  # of a seed: of each cluster, the largest first


def run() -> list[Claim]:
    points, _ = make_blobs(list(SIZES), centers=CENTRES, random_state=0)
    graph = of_neighbours(points)
    methods: dict[str, Shares] = {
        "SimCLR": partial(_embedded, graph, partial(nt_xent, temperature=0.1)),
        "VICReg": partial(_embedded, graph, lambda z1, z2: vicreg(z1, z2)["loss"]),
    }
    msn, pmsn, without = (
        [embed_to_prototypes(graph, torch.from_numpy(prior), weight, DIM, STEPS, BATCH, seed) for seed in range(SEEDS)]
        for prior, weight in ((EQUAL, 1.0), (BLOBS, 1.0), (EQUAL, 0.0))
    )
    controls: dict[str, Shares] = {
        "k-means of the points": lambda seed: shares(k_means(points, K, seed)),
        "spectral clustering of the graph": lambda seed: shares(spectral_clusters(graph, K)),
    }
    return [
        *(even(name, _mean(found)) for name, found in methods.items()),
        even("MSN", _assigned(msn)),
        met("MSN's mean assignment is uniform", _mean_assignment(msn), EQUAL),
        met("PMSN's mean assignment is its prior, the blobs' shares", _mean_assignment(pmsn), BLOBS),
        as_blobs("PMSN, of that prior,", PRIOR, _assigned(pmsn)),
        as_blobs("MSN without the prior's term", CONTROL, _assigned(without)),
        *(as_blobs(name, CONTROL, _mean(found)) for name, found in controls.items()),
    ]


def even(name: str, ours: np.ndarray) -> Claim:
    """ours: (K,), the clusters' shares."""
    return Claim(
        f"{name}'s clusters are nearer to equal sizes than to the blobs' sizes",
        THESIS,
        _measured(ours),
        "less from equal sizes than from the blobs'",
        verdict(variation(ours, EQUAL) < variation(ours, BLOBS)),
        {"clusters": ours, "blobs": BLOBS, "equal": EQUAL},
    )


def as_blobs(name: str, source: str, ours: np.ndarray) -> Claim:
    """ours: (K,), the clusters' shares."""
    return Claim(
        f"{name} makes clusters of the blobs' sizes",
        source,
        _measured(ours),
        f"at most {NEAR:g} from the blobs' (the threshold is ours)",
        verdict(variation(ours, BLOBS) <= NEAR),
        {"clusters": ours, "blobs": BLOBS, "equal": EQUAL},
    )


def met(name: str, ours: np.ndarray, prior: np.ndarray) -> Claim:
    """ours: (K,), the mean probability of each prototype. prior: (K,)."""
    return Claim(
        name,
        PRIOR,
        f"{_written(ours)}, {variation(ours, prior):.2f} in total variation from {_written(prior)}; {SEEDS} seeds",
        f"at most {NEAR:g} (the threshold is ours)",
        verdict(variation(ours, prior) <= NEAR),
        {"mean assignment": ours, "prior": prior},
    )


def _measured(ours: np.ndarray) -> str:
    return (
        f"shares {_written(ours)}: in total variation {variation(ours, EQUAL):.2f} from equal ones and "
        f"{variation(ours, BLOBS):.2f} from the blobs' {_written(BLOBS)}; means of {SEEDS} seeds"
    )


def _written(ours: np.ndarray) -> str:
    return ", ".join(f"{share:.2f}" for share in ours)


def _mean(found: Shares) -> np.ndarray:
    return np.asarray(np.mean([found(seed) for seed in range(SEEDS)], axis=0))


def _embedded(graph: Graph, loss: PairLoss, seed: int) -> np.ndarray:
    return shares(k_means(embed(graph, loss, DIM, STEPS, BATCH, seed), K, seed))


def _assigned(learned: list[Learned]) -> np.ndarray:
    """Of each prototype, the nodes to which it is the nearest by cosine; the mean over seeds."""
    return np.asarray(np.mean([shares(p.argmax(1)) for p in map(_assignments, learned)], axis=0))


def _mean_assignment(learned: list[Learned]) -> np.ndarray:
    """What MSN's prior is of: each prototype's mean probability over the nodes, the largest first, over seeds."""
    return np.asarray(np.mean([np.sort(p.mean(0))[::-1] for p in map(_assignments, learned)], axis=0))


def _assignments(learned: Learned) -> np.ndarray:
    """float64 (n, K): each node's probabilities."""
    z, prototypes = map(torch.from_numpy, learned)
    return np.asarray(assign(z, prototypes, TEMPERATURE).exp())


def shares(cluster: np.ndarray) -> np.ndarray:
    """float64 (K,), the largest first. cluster: int (n,), below K."""
    counts = np.bincount(cluster, minlength=K)
    return np.sort(counts / counts.sum())[::-1]


def variation(one: np.ndarray, other: np.ndarray) -> float:
    """The total variation of two distributions, from 0 to 1."""
    return float(np.abs(one - other).sum() / 2)
