"""Contrastive learning is spectral clustering (Tan et al. 2024), on graphs small enough that everything is known.

With the Gaussian kernel of variance tau, InfoNCE of a batch of pairs is tr(Z^T L Z) / tau + log R(Z), where L is the
Laplacian of the graph of the pairs, and log R the mean log of the kernel's sums. log R keeps unit vectors from
collapsing into one point; in spectral clustering the constraint Z^T Z = I does that. How far the two constraints lead
to the same subspace is measured here.
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
NEGATIVES, SETS = (1, 4, 16, 64), 64  # numbers of negatives in a set, and number of sets
STARTS = 3  # starts of each minimization, of which the lowest minimum counts
NUDGE = 1e-3  # factor of the random start that is added to the eigenvectors, which have unit length
USED = 0.01  # a direction of an embedding is in use if it is longer than this share of the longest
SAME = 1e-6  # largest difference of two objectives that count as the same
NEAR = 10.0  # largest angle, in degrees, of two subspaces that count as the same
CODE = "Tan et al. 2024, official code, whose Gaussian kernel is exp(-d^2 / T) (found)"
PAPER = "Tan et al. 2024, main theorem, as reviews of the paper state it (found, secondary)"
READING = f"{PAPER}; that the two span the same subspace is our reading of it (inferred)"


def run() -> list[Claim]:
    """Return all claims."""
    return [*identity(), *side_by_side(subspace, graphs()), negatives()]


def graphs() -> dict[str, tuple[Graph, int]]:
    """Return graphs of known augmentations: name -> graph, and how many of its eigenvectors tell its parts apart.

    Each has 48 nodes and 48 images. On the ring an image becomes itself or a neighbor. In a community it becomes, half
    of the time, any node of its community, and otherwise any node at all. In the drawn communities it becomes one of
    eight nodes that were drawn once in this way.
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
    """Return the augmentation probabilities, float64 (n, n). community: int (n,), the community of each node."""
    own = (community[:, None] == community).astype(float)
    return np.asarray((own / own.sum(1) + 1 / len(community)) / 2)


def identity() -> list[Claim]:
    """Return the claims that compare our losses with numpy's and scipy's Laplacian objective, on the same batches."""
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
            f"smallest difference {laplace.min():.2g}; {of}",
            f"above {SAME:g}",
            verdict(bool(laplace.min() > SAME)),
            {"over tau": np.array(TEMPERATURES), "least difference": laplace.min(0)},
        ),
        Claim(
            "The Gaussian kernel at temperature T is SimCLR at T / 2",
            CODE,
            f"largest difference from SimCLR at T / 2 {halved.max():.1e}, smallest from it at T {kept.min():.2g}; {of}",
            f"at most {SAME:g} at T / 2, and above that at T",
            verdict(bool(halved.max() <= SAME < kept.min())),
            {
                "over tau": np.array(TEMPERATURES),
                "largest difference at T / 2": halved.max(0),
                "least difference at T": kept.min(0),
            },
        ),
    ]


def laplacian_objective(z: np.ndarray, counts: np.ndarray, tau: float) -> float:
    """Return the Laplacian's objective plus log R of a batch of pairs.

    It is [tr(Z^T L Z) / tau + sum_i c_i log(sum_k (c_k - [k = i]) K(z_i, z_k))] / sum c with
    K = exp(-d^2 / (2 tau)); an embedding is not its own candidate. z: float64 (n, d). counts: float64 (n, n), see
    `pair_weights`; L is its Laplacian, and c are its row sums.
    """
    # attraction is the trace term; the logarithms of `sums` make log R. Nodes in no pair of the batch do not count.
    c = counts.sum(1)
    attraction = np.trace(z.T @ laplacian(counts) @ z) / tau
    sums = (np.exp(-cdist(z, z, "sqeuclidean") / (2 * tau)) * (c - np.eye(len(z)))).sum(1)
    used = c > 0
    return float((attraction + c[used] @ np.log(sums[used])) / c.sum())


def minimizer(graph: Graph, dim: int, tau: float) -> np.ndarray:
    """Return the lowest of STARTS minima, with all nodes of the graph as negatives: float64 (n, dim) with unit rows."""
    return minimum(graph, infonce(exponential(2, 2 * tau)), _starts(graph, dim))


def _starts(graph: Graph, dim: int) -> list[np.ndarray]:
    """Return the starts of a minimization. The first is near the bottom eigenvectors.

    So where the angle to these is large, the loss really is lower elsewhere. The start is not exactly at them, because
    they can be 0 at a node, and because the gradient at a symmetric start is 0.
    """
    first, *others = random_starts(graph, dim, STARTS)
    return [graph.bottom(dim) + NUDGE * first, *others]


def span(z: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis, float64 (n, r), of the directions in use of the centered unit embeddings (n, d)."""
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    directions, lengths, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    return np.asarray(directions[:, lengths > USED * lengths[0]])


def angle(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest principal angle of the spans of two bases, in degrees; 0 also if one lies within the other."""
    return float(np.degrees(subspace_angles(one, other).max()))


def subspace(name: str) -> Claim:
    """Return the claim that on the graph called `name` the embedding spans the bottom eigenvectors."""
    graph, dim = graphs()[name]
    gap = eigvalsh(laplacian(graph.pi))[dim : dim + 2]
    spans = [span(minimizer(graph, dim, tau)) for tau in TEMPERATURES]
    used = np.array([basis.shape[1] for basis in spans])
    plain, normalized = (np.array([angle(basis, graph.bottom(dim, walk)) for basis in spans]) for walk in (False, True))
    return Claim(
        f"On {name} the embedding spans the Laplacian's bottom eigenvectors, at every temperature",
        READING,
        f"at tau {_listed(TEMPERATURES)}: largest principal angle {_listed(plain)} degrees, and {_listed(normalized)} "
        f"to the normalized Laplacian's; dimensions in use {_listed(used)} of {dim}; the next eigenvalue is "
        f"{gap[1] / gap[0]:.2f} times the largest of theirs; {len(graph)} nodes, all of them negatives",
        f"at most {NEAR:g} degrees and {dim} dimensions in use, at every temperature (the thresholds are ours)",
        verdict(bool((plain <= NEAR).all() and (used == dim).all())),
        {"over tau": np.array(TEMPERATURES), "degrees": plain, "degrees, normalized Laplacian": normalized},
    )


def negatives() -> Claim:
    """Return the claim about the number of negatives, at SimCLR's temperature.

    The negatives are drawn once and kept, so that the loss is a function with a minimum.
    """
    degrees = dict(zip(graphs(), side_by_side(_by_negatives, graphs().values()), strict=True))
    each = "; ".join(f"{name} {_listed(line)}" for name, line in degrees.items())
    return Claim(
        "More negatives bring the embedding nearer to the bottom eigenvectors",
        "this project's question; that the theorem assumes all negatives follows from its log R (inferred)",
        f"largest principal angle in degrees with {_listed(NEGATIVES)} negatives: {each}; tau {TEMPERATURE:g}, the "
        f"loss averaged over {SETS} sets of negatives",
        f"on every graph, with {NEGATIVES[-1]} at most {NEAR:g} degrees, or at least {NEAR:g} fewer than with "
        f"{NEGATIVES[0]}, since less may be chance (the thresholds are ours)",
        verdict(all(line[-1] <= max(NEAR, line[0] - NEAR) for line in degrees.values())),
        {"over negatives": np.array(NEGATIVES, dtype=float), **degrees},
    )


def _by_negatives(of: tuple[Graph, int]) -> np.ndarray:
    """Return the degrees to the bottom eigenvectors, for each number of negatives. of: graph and dimensions."""
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
