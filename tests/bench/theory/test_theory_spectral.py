"""Graphs with known spectra, and the suite's losses compared with the Laplacian's objective."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.sparse.csgraph import laplacian
from sklearn.metrics import adjusted_rand_score

from twoview.bench import evidence
from twoview.bench.config.experiment import Place
from twoview.bench.suites import runner
from twoview.bench.theory import clusters, population, spectral, uniform_prior
from twoview.bench.theory.embedding import PairLoss, embed, embed_to_prototypes
from twoview.bench.theory.graph import Graph, augmentation_graph, neighbor_graph, pair_weights
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.kernel import concat, kernel_infonce, kernel_sum, mixed_kernel


def complete(nodes: int) -> Graph:
    return Graph(1 - np.eye(nodes))


def two_cliques(nodes: int) -> Graph:
    """Two cliques without an edge between them."""
    return Graph(np.kron(np.eye(2), 1 - np.eye(nodes)))


def test_all_eigenvalues_but_one_of_a_complete_graph_are_equal():
    values = np.linalg.eigvalsh(laplacian(complete(7).pi))
    np.testing.assert_allclose(values, [0, *[1 / 6] * 6], atol=1e-15)  # n / (n (n - 1))


@pytest.mark.parametrize("normalized", [False, True])
def test_the_first_eigenvector_separates_two_weakly_joined_cliques(normalized):
    found = Graph(two_cliques(5).weights + 1e-3).bottom(1, normalized)
    assert spectral.angle(found, np.repeat([1.0, -1.0], 5)[:, None]) < 1e-5


def test_augmentation_probabilities_give_the_expected_pairs():
    # Image 0 becomes node 0 or 1, image 1 node 1 only: pi_01 = 1/2 (1/4), pi_11 = 1/2 (1/4 + 1).
    graph = augmentation_graph(np.array([[0.5, 0.5], [0.0, 1.0]]))
    np.testing.assert_allclose(graph.pi, [[0.125, 0.125], [0.125, 0.625]])
    i, k = graph.draw(np.random.default_rng(0), 40_000)
    np.testing.assert_allclose(pair_weights(i, k, 2) / 80_000, graph.pi, atol=0.01)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([[0, 1], [2, 0]], r"weights must be symmetric, got 1 at \[0, 1\] and 2 at \[1, 0\]"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 5]], "weights must leave no node isolated, got the isolated node 2"),
        ([[0, -1], [-1, 0]], r"0 or above, got -1 at \[0, 1\]"),
        ([[0, math.nan], [math.nan, 0]], r"finite and 0 or above, got nan at \[0, 1\]"),
        ([[0, 1, 1], [1, 0, 1]], r"weights must have shape \(n, n\) with n >= 2, got \(2, 3\)"),
    ],
)
def test_invalid_weights_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        Graph(np.array(weights))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: augmentation_graph(np.array([[0.5, 0.4], [0, 1]])), "row of probabilities .* got 0.9 for row 0"),
        (lambda: augmentation_graph(np.array([[0.5, 0.5], [2, -1]])), r"probabilities .* got -1 at \[1, 1\]"),
        (lambda: augmentation_graph(np.array([[1.0, 0], [1, 0]])), "no node isolated, got the isolated node 0"),
        (lambda: neighbor_graph(np.zeros((5, 2)), 5), "neighbors must be .* below the 5 points, got 5"),
        (lambda: neighbor_graph(np.zeros((5, 2)), 0), "neighbors must be .*, got 0"),
        (lambda: complete(4).bottom(4), "count must be at least 1 and below the 4 nodes, got 4"),
    ],
)
def test_invalid_arguments_for_graphs_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_objective_of_two_nodes_matches_values_by_hand():
    # One pair at cosine 0: -log K = 1 / tau, and the other node is each one's only candidate.
    z, counts = np.eye(2), pair_weights(np.array([0]), np.array([1]), 2)
    assert spectral.laplacian_objective(z, counts, 0.3) == pytest.approx(0, abs=1e-14)
    # The same pair twice: the candidates are the node once more, with K = 1, and the other node twice.
    one = 1 / 0.3 + math.log(1 + 2 * math.exp(-1 / 0.3))
    assert spectral.laplacian_objective(z, 2 * counts, 0.3) == pytest.approx(one, abs=1e-14)


@given(
    nodes=st.integers(2, 12),
    pairs=st.integers(2, 30),
    dim=st.integers(1, 5),
    tau=st.floats(0.05, 5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_infonce_equals_the_laplacians_objective(nodes, pairs, dim, tau, seed):
    """For any pairs in float64, including a node with itself."""
    rng = np.random.default_rng(seed)
    i, k = rng.integers(0, nodes, (2, pairs))
    z = rng.standard_normal((nodes, dim))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    ours = nt_xent(torch.from_numpy(z[i]), torch.from_numpy(z[k]), tau).item()
    assert ours == pytest.approx(spectral.laplacian_objective(z, pair_weights(i, k, nodes), tau), abs=1e-9)


PAIR_LOSSES: dict[str, PairLoss] = {
    "Gaussian": partial(kernel_infonce, gamma=2, temperature=4),
    "Laplacian": partial(kernel_infonce, gamma=1, temperature=2),
    "gamma 0.5": partial(kernel_infonce, gamma=0.5, temperature=2**0.5),
    "sum of losses": partial(kernel_sum, gammas=(1, 2), temperatures=(2, 4), weight=0.5),
    "sum of kernels": partial(mixed_kernel, gammas=(1, 2), temperatures=(2, 4), weight=0.5),
    "concatenation": partial(concat, gammas=(1, 2), temperatures=(2, 4), weight=0.5, joint=True),
}


@pytest.mark.parametrize("kernel", clusters.KERNELS)
def test_the_population_objective_is_the_limit_of_many_pairs(kernel):
    """Every edge occurs eight times, as a pair for the suite's losses."""
    graph = Graph(np.ones((6, 6)) + np.eye(6))
    i, k = np.nonzero(graph.weights)
    times = graph.weights[i, k].astype(int) * 8
    i, k = np.repeat(i, times), np.repeat(k, times)
    z = np.random.default_rng(0).standard_normal((6, 4))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    drawn = PAIR_LOSSES[kernel](torch.from_numpy(z[i]), torch.from_numpy(z[k])).item() - math.log(2 * len(i))
    # An embedding is not among its own 2B candidates, which makes a difference of the order of 1 / 2B.
    assert clusters.KERNELS[kernel](z, graph.pi, 0.0001)[0] == pytest.approx(drawn, abs=2 / len(i))


@pytest.mark.parametrize("kernel", clusters.KERNELS)
def test_the_gradient_matches_finite_differences(kernel):
    objective, pi = clusters.KERNELS[kernel], neighbor_graph(np.random.default_rng(0).random((12, 2)), 3).pi
    z = np.random.default_rng(1).standard_normal((12, 4))
    numeric = approx_fprime(z.ravel(), lambda flat: objective(flat.reshape(z.shape), pi, 0.1)[0], 1e-7)
    np.testing.assert_allclose(objective(z, pi, 0.1)[1].ravel(), numeric, atol=1e-6)


def test_the_gradient_with_few_negatives_matches_finite_differences():
    pi, rng = neighbor_graph(np.random.default_rng(0).random((8, 2)), 3).pi, np.random.default_rng(1)
    objective = population.infonce_among(population.exponential(2, 1.0), rng.multinomial(3, pi.sum(1), 5).astype(float))
    z = rng.standard_normal((8, 2))
    numeric = approx_fprime(z.ravel(), lambda flat: objective(flat.reshape(z.shape), pi, 0.1)[0], 1e-7)
    np.testing.assert_allclose(objective(z, pi, 0.1)[1].ravel(), numeric, atol=1e-6)


def test_the_loss_with_few_negatives_matches_cross_entropy():
    """A pair and its negatives have one anchor, so that their logits are one row."""
    pi, z = Graph(np.ones((3, 3))).pi, torch.eye(3, dtype=torch.float64)
    ours, _ = population.infonce_among(population.exponential(2, 1.0), np.array([[0.0, 1, 1]]))(z.numpy(), pi, 0.1)
    logits = 2 * (z @ z.T)  # the cosine over tau = T / 2
    rows = [torch.stack([logits[i, k], logits[i, 1], logits[i, 2]]) for i in range(3) for k in range(3)]
    theirs = torch.nn.functional.cross_entropy(torch.stack(rows), torch.zeros(9, dtype=torch.long))
    assert ours == pytest.approx(theirs.item(), abs=1e-12)


def test_the_minimizer_on_two_cliques_is_two_opposite_points():
    z = spectral.minimizer(two_cliques(4), 2, 1.0)
    side = np.repeat([1, -1], 4)
    np.testing.assert_allclose(z @ z.T, np.outer(side, side), atol=1e-5)


def test_an_embedding_in_a_plane_uses_two_dimensions():
    z = np.zeros((8, 3))
    z[:, :2] = np.column_stack([np.cos(np.arange(8)), np.sin(np.arange(8))])
    assert spectral.span(z).shape == (8, 2)


@pytest.mark.parametrize("kernel", clusters.KERNELS)
def test_every_kernel_separates_two_cliques(kernel):
    truth = np.repeat([0, 1], 8)
    task = clusters.Task(np.zeros((16, 2)), truth, two_cliques(8), truth)
    found = clusters.contrastive(task, clusters.KERNELS[kernel], 2 if kernel == clusters.CONCATENATION else 1)
    assert adjusted_rand_score(truth, found.clusters) == 1


def test_the_lowest_minimum_counts():
    graph, objective = two_cliques(4), clusters.KERNELS["Gaussian"]
    starts = population.random_starts(graph, 2, 3)
    values = [objective(population.descend(graph, objective, start), graph.pi, 0.1)[0] for start in starts]
    best = objective(population.minimum(graph, objective, starts), graph.pi, 0.1)[0]
    assert best == pytest.approx(min(values), abs=1e-9)


def test_a_claim_about_a_kernel_plots_data_and_embedding(monkeypatch):
    points = np.concatenate([np.random.default_rng(0).normal(center, 1, (20, 3)) for center in (0, 30)])
    truth = np.repeat([0, 1], 20)
    task = clusters.Task(points, truth, neighbor_graph(points), 1 - truth)
    claim = clusters.kernel("Gaussian", {"two": task})
    assert claim.verdict == "holds" and claim.figure["contrastive against spectral clustering"] == [1.0]
    assert list(claim.scatter) == ["two", "two, embedded"]
    assert all(len(panel.x) == len(panel.y) == len(panel.label) == 40 for panel in claim.scatter.values())
    monkeypatch.setattr(clusters, "TEMPERATURES", (1.0, 4.0))
    heat = clusters.temperature({"rings": task})
    assert heat.verdict == "holds" and heat.figure["rings"].tolist() == [1.0, 1.0] and len(heat.scatter) == 2


def test_spectral_clustering_finds_separate_clusters():
    points = np.concatenate([np.random.default_rng(0).normal(center, 1, (30, 2)) for center in (0, 30)])
    found = clusters.spectral_clusters(neighbor_graph(points), 2)
    assert adjusted_rand_score(np.repeat([0, 1], 30), found) == 1


def test_the_same_seed_gives_the_same_embedding():
    def loss(z1, z2):
        return nt_xent(z1, z2, 0.5)

    one, same, other = (embed(complete(5), loss, 2, 3, 4, seed) for seed in (1, 1, 2))
    assert one.dtype == np.float64 and (one == same).all() and not (one == other).any()


def test_only_msns_prior_makes_clusters_equal():
    points = np.concatenate([np.arange(224.0), 1000 + np.arange(16.0)])[:, None]
    graph, start = neighbor_graph(points), np.repeat([0, 1], [224, 16])

    def sizes(prior: list[float], weight: float) -> list[int]:
        z, prototypes = embed_to_prototypes(graph, start, torch.tensor(prior).double(), weight, 4, 300, 64, seed=0)
        return np.bincount((z @ prototypes.T).argmax(1)).tolist()

    assert min(sizes([0.5, 0.5], 1.0)) > 80
    assert sizes([0.5, 0.5], 0.0) == sizes([14 / 15, 1 / 15], 1.0) == [224, 16]


def sized(*sizes: int) -> list[np.ndarray]:
    return [np.repeat(np.arange(len(sizes)), sizes)]


def test_shares_are_sorted_and_their_distance_is_total_variation():
    np.testing.assert_allclose(uniform_prior.mean_shares(sized(1, 2, 3)), [3 / 6, 2 / 6, 1 / 6, 0])
    np.testing.assert_allclose(uniform_prior.mean_shares(sized(3, 1) + sized(2, 2)), [5 / 8, 3 / 8, 0, 0])
    assert uniform_prior.variation(np.array([1.0, 0]), np.array([0.25, 0.75])) == 0.75


def test_verdicts_follow_the_rule():
    points = np.zeros((600, 2))
    near, far = sized(140, 155, 150, 155), sized(*uniform_prior.SIZES)
    even, as_blobs = uniform_prior.even, partial(uniform_prior.as_blobs, "a", "")
    assert even("a", points, near).verdict == "holds" and even("a", points, far).verdict == "fails"
    assert as_blobs(points, near).verdict == "fails" and as_blobs(points, far).verdict == "holds"
    assert len(even("a", points, near + far).scatter["seed 1"].x) == 300


def test_an_experiment_of_the_suite_records_its_claims(tmp_path, monkeypatch):
    claim = uniform_prior.even("SimCLR", np.zeros((4, 2)), sized(1, 1, 1, 1))
    monkeypatch.setattr(uniform_prior, "run", lambda: [claim])
    runner.run(runner.Suite(theory=("uniform_prior",)), tmp_path, Place(tmp_path, tmp_path, None), 1)
    record = evidence.read(tmp_path / "theory-uniform_prior.json")
    assert isinstance(record, evidence.Theory) and record.seconds > 0
    assert record.claims == [evidence.Claimed.of(claim)] and record.claims[0].verdict == "holds"
    samples = evidence.load(tmp_path)
    assert samples[samples.metric == "equal"].value.tolist() == [0.25] * 4
    assert set(samples[samples.metric == "clusters"].of) == {claim.name}
