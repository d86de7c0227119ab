"""Contrastive learning is spectral clustering (Tan et al. 2024), on graphs small enough to know everything.

With the Gaussian kernel of variance tau, InfoNCE of a batch of pairs is tr(Z^T L Z) / tau + log R(Z), L the Laplacian
of the pairs' graph and log R the mean log of the kernel's sums. log R is what keeps unit vectors from one point, where
spectral clustering has Z^T Z = I; how far the two constraints lead to the same subspace is measured.
"""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.linalg import eigvalsh, subspace_angles
from scipy.sparse.csgraph import laplacian
from scipy.spatial.distance import cdist

from twoview.bench.evidence.claims import Claim, verdict
from twoview.bench.theory.graph import Graph, augmentation_graph, pair_weights
from twoview.bench.theory.parallel import side_by_side
from twoview.bench.theory.population import exponential, infonce, infonce_among, minimum, random_starts
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.kernel import kernel_infonce

TEMPERATURES = (0.1, 0.2, 0.5, 1.0, 2.0)
TEMPERATURE = 0.5  # SimCLR's
NEGATIVES, SETS = (1, 4, 16, 64), 64
STARTS = 3  # of each minimization, of which the lowest counts
BESIDE = 1e-3  # of a random start, that is added to eigenvectors of unit length
USED = 0.01  # of the longest direction of an embedding: a shorter one is none
SAME = 1e-6  # two objectives are one
NEAR = 10.0  # degrees between two subspaces that are called one
CODE = "Tan et al. 2024, official code, whose Gaussian kernel is exp(-d^2 / T) (found)"
PAPER = "Tan et al. 2024, main theorem, as reviews of the paper state it (found, secondary)"
READING = f"{PAPER}; that the two span one subspace is our reading of it (inferred)"


def run() -> list[Claim]:
    return [*identity(), *side_by_side(subspace, graphs()), negatives()]


def graphs() -> dict[str, tuple[Graph, int]]:
    """Of known augmentation probabilities: name -> graph, and how many of its eigenvectors tell its parts apart.

    48 nodes, and as many images. On the ring an image becomes itself or a neighbor; in a community any of its nodes
    (half of the time) or any node at all, and in the drawn communities only eight nodes of those, drawn once.
    """
    ring = np.mean([np.roll(np.eye(48), shift, 1) for shift in (-1, 0, 0, 1)], axis=0)
    equal, unequal = (_communities(np.repeat(np.arange(4), sizes)) for sizes in ([12] * 4, [24, 12, 8, 4]))
    rng = np.random.Generator(np.random.Philox(0))
    drawn = np.stack([rng.multinomial(8, row) for row in equal]) / 8
    return {
        "a ring": (augmentation_graph(ring), 2),
        "four equal communities": (augmentation_graph(equal), 3),
        "four unequal communities": (augmentation_graph(unequal), 3),
        "four drawn communities": (augmentation_graph(drawn), 3),
    }


def _communities(community: np.ndarray) -> np.ndarray:
    own = (community[:, None] == community).astype(float)
    return np.asarray((own / own.sum(1) + 1 / len(community)) / 2)


def identity() -> list[Claim]:
    """Our losses in float64 on batches of 256 drawn pairs beside numpy's and scipy's Laplacian objective of them."""
    rng = np.random.Generator(np.random.Philox(1))
    gaussian, laplace, halved, kept = np.empty((4, len(graphs()), len(TEMPERATURES)))
    for row, (graph, dim) in enumerate(graphs().values()):
        for column, tau in enumerate(TEMPERATURES):
            i, k = graph.draw(rng, 256)
            z = rng.standard_normal((len(graph), dim))
            z /= np.linalg.norm(z, axis=1, keepdims=True)
            z1, z2 = torch.from_numpy(z[i]), torch.from_numpy(z[k])
            ours = laplacian_objective(z, pair_weights(i, k, len(graph)), tau)
            same = (nt_xent(z1, z2, tau).item(), kernel_infonce(z1, z2, 2, 2 * tau).item())
            gaussian[row, column] = max(abs(loss - ours) for loss in same)
            laplace[row, column] = abs(kernel_infonce(z1, z2, 1, 2 * tau).item() - ours)
            # On unit vectors d^2 = 2 - 2 cos, so exp(-d^2 / T) is exp(cos / (T / 2)) times a constant.
            code = kernel_infonce(z1, z2, 2, tau).item()
            halved[row, column] = abs(code - nt_xent(z1, z2, tau / 2).item())
            kept[row, column] = abs(code - nt_xent(z1, z2, tau).item())
    of = f"{gaussian.size} batches of 256 pairs, four graphs, tau {TEMPERATURES[0]:g} to {TEMPERATURES[-1]:g}, float64"
    return [
        Claim(
            "InfoNCE with the Gaussian kernel is the Laplacian's objective plus log R",
            PAPER,
            f"largest difference {gaussian.max():.1e}; {of}",
            f"at most {SAME:g}",
            verdict(bool(gaussian.max() <= SAME)),
            {"over tau": np.array(TEMPERATURES), "largest difference": gaussian.max(0)},
        ),
        Claim(
            "With the Laplacian kernel it is not",
            f"{PAPER}: exact for the Gaussian kernel",
            f"least difference {laplace.min():.2g}; {of}",
            f"above {SAME:g}",
            verdict(bool(laplace.min() > SAME)),
            {"over tau": np.array(TEMPERATURES), "least difference": laplace.min(0)},
        ),
        Claim(
            "The Gaussian kernel at temperature T is SimCLR at T / 2",
            CODE,
            f"largest difference {halved.max():.1e} from SimCLR at T / 2, least {kept.min():.2g} from it at T; {of}",
            f"at most {SAME:g}, and above it",
            verdict(bool(halved.max() <= SAME < kept.min())),
            {
                "over tau": np.array(TEMPERATURES),
                "largest difference at T / 2": halved.max(0),
                "least difference at T": kept.min(0),
            },
        ),
    ]


def laplacian_objective(z: np.ndarray, counts: np.ndarray, tau: float) -> float:
    """[tr(Z^T L Z) / tau + sum_i c_i log(sum_k (c_k - [k = i]) K(z_i, z_k))] / sum c.

    K = exp(-d^2 / (2 tau)); an embedding is no candidate of itself. z: float64 (n, d). counts: float64 (n, n), of
    `pair_weights`; c its sums.
    """
    c = counts.sum(1)
    attraction = np.trace(z.T @ laplacian(counts) @ z) / tau
    sums = (np.exp(-cdist(z, z, "sqeuclidean") / (2 * tau)) * (c - np.eye(len(z)))).sum(1)
    used = c > 0
    return float((attraction + c[used] @ np.log(sums[used])) / c.sum())


def minimizer(graph: Graph, dim: int, tau: float) -> np.ndarray:
    """float64 (n, dim) of unit rows: the lowest of STARTS minima with all of the graph as negatives."""
    return minimum(graph, infonce(exponential(2, 2 * tau)), _starts(graph, dim))


def _starts(graph: Graph, dim: int) -> list[np.ndarray]:
    """One is beside the bottom eigenvectors: where the angle is large, the loss is lower elsewhere.

    Not at them, because they can be 0 at a node, and because a symmetric start has a slope of 0.
    """
    first, *others = random_starts(graph, dim, STARTS)
    return [graph.bottom(dim) + BESIDE * first, *others]


def span(z: np.ndarray) -> np.ndarray:
    """float64 (n, r): an orthonormal basis of the columns in use of the centered unit embeddings, (n, d)."""
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    directions, lengths, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    return np.asarray(directions[:, lengths > USED * lengths[0]])


def angle(one: np.ndarray, other: np.ndarray) -> float:
    """Degrees: the largest principal angle between two bases' spans; 0 also where one lies within the other."""
    return float(np.degrees(subspace_angles(one, other).max()))


def subspace(name: str) -> Claim:
    graph, dim = graphs()[name]
    gap = eigvalsh(laplacian(graph.pi))[dim : dim + 2]
    spans = [span(minimizer(graph, dim, tau)) for tau in TEMPERATURES]
    used = np.array([basis.shape[1] for basis in spans])
    plain, normalized = (np.array([angle(basis, graph.bottom(dim, walk)) for basis in spans]) for walk in (False, True))
    return Claim(
        f"On {name} the embedding spans the Laplacian's bottom eigenvectors, at every temperature",
        READING,
        f"at tau {_listed(TEMPERATURES)}: largest principal angle {_listed(plain)} degrees, and {_listed(normalized)} "
        f"to the normalized Laplacian's; dimensions in use {_listed(used)} of {dim}; "
        f"the eigenvalue behind them is {gap[1] / gap[0]:.2f} times theirs; {len(graph)} nodes, all negatives",
        f"at most {NEAR:g} degrees and {dim} dimensions in use, at every temperature (the thresholds are ours)",
        verdict(bool((plain <= NEAR).all() and (used == dim).all())),
        {"over tau": np.array(TEMPERATURES), "degrees": plain, "degrees, normalized Laplacian": normalized},
    )


def negatives() -> Claim:
    """At SimCLR's temperature; negatives are drawn once and kept, so that the loss is a function with a minimum."""
    degrees = dict(zip(graphs(), side_by_side(_by_negatives, graphs().values()), strict=True))
    each = "; ".join(f"{name} {_listed(line)}" for name, line in degrees.items())
    return Claim(
        "More negatives bring the embedding nearer to the bottom eigenvectors",
        "this project's question; that the theorem is of all negatives follows from its log R (inferred)",
        f"degrees with {_listed(NEGATIVES)} negatives: {each}; tau {TEMPERATURE:g}, the mean over {SETS} sets of them",
        f"on every graph, with {NEGATIVES[-1]} at most {NEAR:g} degrees or {NEAR:g} fewer than with {NEGATIVES[0]}: "
        "less is chance (the thresholds are ours)",
        verdict(all(line[-1] <= max(NEAR, line[0] - NEAR) for line in degrees.values())),
        {"over negatives": np.array(NEGATIVES, dtype=float), **degrees},
    )


def _by_negatives(of: tuple[Graph, int]) -> np.ndarray:
    """Degrees to the bottom eigenvectors, for each number of negatives."""
    graph, dim = of
    rng = np.random.Generator(np.random.Philox(3))
    kernel, p = exponential(2, 2 * TEMPERATURE), graph.pi.sum(1)
    found = [
        minimum(graph, infonce_among(kernel, rng.multinomial(count, p, SETS).astype(float)), _starts(graph, dim))
        for count in NEGATIVES
    ]
    return np.array([angle(span(z), graph.bottom(dim)) for z in found])


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{round(number, 2):.3g}" for number in numbers)
