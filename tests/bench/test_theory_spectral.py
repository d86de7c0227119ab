"""Graphs of which everything is known, and the losses of the suite beside the Laplacian's objective."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import laplacian
from sklearn.metrics import adjusted_rand_score

from bench import evidence, suite
from bench.experiment import Place
from bench.theory import clusters, spectral, uniform_prior
from bench.theory.embedding import embed, embed_to_prototypes
from bench.theory.graph import Graph, of_augmentations, of_neighbours, of_pairs
from methods.losses.infonce import nt_xent
from methods.losses.priors import uniform


def complete(nodes: int) -> Graph:
    return Graph(1 - np.eye(nodes))


def two_cliques(nodes: int) -> Graph:
    """Joined by nothing."""
    return Graph(np.kron(np.eye(2), 1 - np.eye(nodes)))


def test_of_a_complete_graph_all_eigenvalues_but_one_are_alike():
    values = np.linalg.eigvalsh(laplacian(complete(7).pi))
    np.testing.assert_allclose(values, [0, *[1 / 6] * 6], atol=1e-15)  # n / (n (n - 1))


@pytest.mark.parametrize("normalised", [False, True])
def test_of_two_cliques_hardly_joined_the_first_eigenvector_tells_them_apart(normalised):
    found = Graph(two_cliques(5).weights + 1e-3).bottom(1, normalised)
    assert spectral.angle(found, np.repeat([1.0, -1.0], 5)[:, None]) < 1e-5


def test_augmentation_probabilities_make_the_pairs_they_say():
    # Image 0 becomes node 0 or 1, image 1 node 1 only: pi_01 = 1/2 (1/4), pi_11 = 1/2 (1/4 + 1).
    graph = of_augmentations(np.array([[0.5, 0.5], [0.0, 1.0]]))
    np.testing.assert_allclose(graph.pi, [[0.125, 0.125], [0.125, 0.625]])
    i, k = graph.draw(np.random.default_rng(0), 40_000)
    np.testing.assert_allclose(of_pairs(i, k, 2) / 80_000, graph.pi, atol=0.01)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([[0, 1], [2, 0]], r"weights must be symmetric, and weights\[0, 1\] is 1 and weights\[1, 0\] is 2"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 5]], "weights must leave no node isolated, and node 2 is"),
        ([[0, -1], [-1, 0]], r"0 or above, and weights\[0, 1\] is -1"),
        ([[0, math.nan], [math.nan, 0]], r"finite and 0 or above, and weights\[0, 1\] is nan"),
        ([[0, 1, 1], [1, 0, 1]], r"weights must be \(n, n\) with n >= 2, not \(2, 3\)"),
    ],
)
def test_a_graph_that_is_none(weights, words):
    with pytest.raises(ValueError, match=words):
        Graph(np.array(weights))


def test_the_objective_of_two_nodes_by_hand():
    # One pair at cosine 0: -log K = 1 / tau, and the other node is each one's only candidate.
    z, counts = np.eye(2), of_pairs(np.array([0]), np.array([1]), 2)
    assert spectral.laplacian_objective(z, counts, 0.3) == pytest.approx(0, abs=1e-14)
    # The same pair twice: of the node itself there is one more, whose K is 1, of the other there are two.
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
def test_infonce_is_the_laplacian_s_objective(nodes, pairs, dim, tau, seed):
    """Any pairs in float64, a node with itself among them."""
    rng = np.random.default_rng(seed)
    i, k = rng.integers(0, nodes, (2, pairs))
    z = rng.standard_normal((nodes, dim))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    ours = nt_xent(torch.from_numpy(z[i]), torch.from_numpy(z[k]), tau).item()
    assert ours == pytest.approx(spectral.laplacian_objective(z, of_pairs(i, k, nodes), tau), abs=1e-9)


def test_the_population_is_the_limit_of_many_pairs():
    graph, dim = spectral.graphs()["four equal communities"]
    rng = np.random.default_rng(0)
    i, k = graph.draw(rng, 20_000)
    z = rng.standard_normal((len(graph), dim))
    all_of_it = spectral.population(torch.from_numpy(z), torch.from_numpy(graph.pi), 0.5).item()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    drawn = spectral.laplacian_objective(z, of_pairs(i, k, len(graph)), 0.5)
    assert drawn - math.log(2 * len(i)) == pytest.approx(all_of_it, abs=0.02)


def test_on_two_cliques_the_minimiser_is_two_opposite_points():
    z = spectral.minimiser(two_cliques(4), 2, 1.0)
    side = np.repeat([1, -1], 4)
    np.testing.assert_allclose(z @ z.T, np.outer(side, side), atol=1e-5)


def test_an_embedding_in_a_plane_uses_two_dimensions():
    z = np.zeros((8, 3))
    z[:, :2] = np.column_stack([np.cos(np.arange(8)), np.sin(np.arange(8))])
    assert spectral.span(z).shape == (8, 2)


# Not gamma 0.5: so steep at 0 and so flat beyond, it leaves stray nodes where they began.
@pytest.mark.parametrize("kernel", sorted(set(clusters.KERNELS) - {"gamma 0.5"}))
def test_every_kernel_tells_two_cliques_apart(kernel, monkeypatch):
    monkeypatch.setattr(clusters, "STEPS", 100)
    monkeypatch.setattr(clusters, "BATCH", 32)
    found = clusters.contrastive_clusters(two_cliques(8), clusters.KERNELS[kernel], 2, seed=0)
    assert adjusted_rand_score(np.repeat([0, 1], 8), found) == 1


def test_spectral_clustering_finds_what_is_apart():
    points = np.concatenate([np.random.default_rng(0).normal(centre, 1, (30, 2)) for centre in (0, 30)])
    found = clusters.spectral_clusters(of_neighbours(points), 2)
    assert adjusted_rand_score(np.repeat([0, 1], 30), found) == 1


def test_the_same_seed_is_the_same_embedding():
    def loss(z1, z2):
        return nt_xent(z1, z2, 0.5)

    one, same, other = (embed(complete(5), loss, 2, 3, 4, seed) for seed in (1, 1, 2))
    assert one.dtype == np.float64 and (one == same).all() and not (one == other).any()


def test_msn_s_uniform_prior_is_met_by_two_cliques_of_one_size():
    z, prototypes = embed_to_prototypes(two_cliques(8), uniform(2), 1.0, 4, 200, 64, seed=0)
    nearest = (z @ (prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)).T).argmax(1)
    assert adjusted_rand_score(np.repeat([0, 1], 8), nearest) == 1


def test_shares_are_sorted_and_their_distance_is_total_variation():
    np.testing.assert_allclose(uniform_prior.shares(np.array([2, 2, 2, 1, 1, 0])), [3 / 6, 2 / 6, 1 / 6, 0])
    assert uniform_prior.variation(np.array([1.0, 0]), np.array([0.25, 0.75])) == 0.75


def test_verdicts_follow_the_rule():
    near, far = uniform_prior.EQUAL + 0.02 * np.array([1, 0, 0, -1]), uniform_prior.BLOBS
    assert uniform_prior.even("a", near).verdict == "holds" and uniform_prior.even("a", far).verdict == "fails"
    assert uniform_prior.as_blobs("a", "", near).verdict == "fails"
    assert uniform_prior.as_blobs("a", "", far).verdict == "holds"


def test_an_experiment_of_the_suite_leaves_its_claims(tmp_path, monkeypatch):
    claim = uniform_prior.even("SimCLR", uniform_prior.EQUAL)
    monkeypatch.setattr(uniform_prior, "run", lambda: [claim])
    suite.run(suite.Suite(theory=("uniform_prior",)), tmp_path, Place(tmp_path, tmp_path, None), 1)
    record = evidence.read(tmp_path / "theory-uniform_prior.json")
    assert isinstance(record, evidence.Theory) and record.seconds > 0
    assert record.claims == [evidence.Claimed.of(claim)] and record.claims[0].verdict == "holds"
    samples = evidence.load(tmp_path)
    assert samples[samples.metric == "equal"].value.tolist() == [0.25] * 4
    assert set(samples[samples.metric == "clusters"].of) == {claim.name}
