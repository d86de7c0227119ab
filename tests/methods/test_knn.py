"""kNN against a plain float64 definition, scikit-learn's classifier, lightly's function and faiss's exact index."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from twoview.bench.measurement.memory import PeakMemory, host_mib
from twoview.methods.probes import nearest as search
from twoview.methods.probes.knn import knn_top1, votes
from twoview.methods.probes.nearest import nearest

CPU = torch.device("cpu")


def features(count, dim=12, classes=5, seed=0):
    """Return overlapping clusters, with enough right and wrong answers to tell weightings apart."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    label = torch.randint(0, classes, (count,), generator=generator)
    return centers[label] + 1.3 * torch.randn(count, dim, generator=generator), label


@pytest.fixture(scope="module")
def sets():
    return *features(700), *features(300, seed=1)


def by_definition(bank, label, query, classes, k, temperature):
    """Return float64 (Q, classes), with rows that sum to 1."""
    bank, query = (
        x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in (bank, query)
    )
    cosine = query @ bank.T
    scores = np.zeros((len(query), classes))
    for row, near in enumerate(np.argsort(-cosine, axis=1, kind="stable")[:, :k]):
        np.add.at(scores[row], label.numpy()[near], np.exp(cosine[row, near] / temperature))
    return scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (20, 0.07), (200, 0.1), (1000, 0.5), (50, 0.005)])
def test_the_votes_are_their_definition(sets, k, temperature):
    bank, label, query, _ = sets
    found = torch.cat(list(votes(bank, label, query, classes=5, k=k, temperature=temperature)))
    assert found.dtype == torch.float32 and found.shape == (300, 5)
    expected = by_definition(bank, label, query, 5, k, temperature)
    # A cosine is off by 1e-7, its weight by that over the temperature.
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6 / temperature)
    assert np.argmax(expected, 1).tolist() == found.argmax(1).tolist()


def test_at_an_infinite_temperature_each_neighbor_has_one_vote_as_in_scikit_learn(sets):
    bank, label, query, _ = sets
    found = torch.cat(list(votes(bank, label, query, classes=5, k=10, temperature=math.inf)))
    model = KNeighborsClassifier(10, metric="cosine").fit(bank.double().numpy(), label.numpy())
    np.testing.assert_allclose(found.numpy(), model.predict_proba(query.double().numpy()), atol=1e-6)
    assert found.argmax(1).tolist() == model.predict(query.double().numpy()).tolist()


def test_the_votes_are_scikit_learns(sets):
    bank, label, query, query_label = sets
    model = KNeighborsClassifier(50, weights=lambda distance: np.exp((1 - distance) / 0.1), metric="cosine")
    model.fit(bank.double().numpy(), label.numpy())
    found = torch.cat(list(votes(bank, label, query, classes=5, k=50)))
    np.testing.assert_allclose(found.numpy(), model.predict_proba(query.double().numpy()), atol=2e-5)
    expected = 100 * model.score(query.double().numpy(), query_label.numpy())
    assert knn_top1(*sets, k=50) == pytest.approx(expected) and 60 < expected < 99


def test_the_classes_are_ranked_as_lightly_ranks_them(sets):
    package = importlib.util.find_spec("lightly")
    if package is None:
        pytest.skip("lightly is not installed")
    # The file alone: its package imports all of Lightning.
    path = Path(package.origin).parent / "utils" / "benchmarking" / "knn.py"
    functional = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("lightly_knn", path))
    spec.loader.exec_module(functional)
    bank, label, query, _ = sets
    unit = (torch.nn.functional.normalize(x, dim=1) for x in (query, bank))
    first, second = unit
    expected = functional.knn_predict(first, second.T, label, num_classes=5, knn_k=30, knn_t=0.1)
    found = torch.cat(list(votes(bank, label, query, classes=5, k=30)))
    there = found > 0  # without votes, classes come in any order
    for row in range(len(found)):
        count = int(there[row].sum())
        assert found[row].argsort(descending=True)[:count].tolist() == expected[row, :count].tolist()


def test_the_neighbors_are_faisss(sets):
    faiss = pytest.importorskip("faiss")
    bank, query = (torch.nn.functional.normalize(x, dim=1) for x in (sets[0], sets[2]))
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank.numpy())
    cosine, row = index.search(query.numpy(), 20)
    found, where = (torch.cat(x) for x in zip(*nearest(sets[0], sets[2], 20, 64, CPU), strict=True))
    np.testing.assert_allclose(found.numpy(), cosine, atol=1e-6)
    assert (where.numpy() == row).mean() > 0.999


@settings(max_examples=60)
@given(
    count=st.integers(1, 400),
    queries=st.integers(1, 40),
    dim=st.integers(1, 9),
    k=st.integers(1, 90),
    block=st.integers(1, 50),
    chunk=st.integers(1, 500),
    order=st.sampled_from(["random", "rising", "falling", "few values"]),
    seed=st.integers(0, 9),
)
def test_both_searches_find_the_best_however_they_are_cut(count, queries, dim, k, block, chunk, order, seed):
    rng = np.random.default_rng(seed)
    bank, query = rng.standard_normal((count, dim)), rng.standard_normal((queries, dim))
    if order == "few values":
        bank = np.sign(bank)
    elif order != "random":  # toward or away from the queries, which is the most or the least to keep
        query = np.abs(query)
        bank = bank[np.argsort(bank.sum(1) * (1 if order == "rising" else -1))]
    bank, query = torch.tensor(bank, dtype=torch.float32), torch.tensor(query, dtype=torch.float32)
    k = min(k, count)
    plan = search.Plan(queries, block, chunk)
    units = torch.nn.functional.normalize(query, dim=1)
    exact = units.double() @ torch.nn.functional.normalize(bank, dim=1).double().T
    expected = exact.sort(1, descending=True).values[:, :k]
    for by in (search._search_cpu, search._search_torch):
        cosine, row = by(bank, query, k, plan, CPU)
        assert cosine.shape == row.shape == (queries, k)
        assert (cosine - expected).abs().max() < 1e-6
        assert (exact.gather(1, row) - cosine).abs().max() < 1e-6
        assert all(len(set(near)) == k for near in row.tolist())


def test_equal_ones_are_in_the_banks_order():
    bank = torch.ones(3000, 4)
    _, row = next(nearest(bank, bank[:7], 300, 64, CPU))
    assert row.tolist() == [list(range(300))] * 7


def test_threads_share_the_queries_and_change_nothing(sets):
    threads = torch.get_num_threads()
    bank, _, query, _ = sets
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(torch.cat([row for _, row in nearest(bank, query, 30, 8, CPU)]))
    finally:
        torch.set_num_threads(threads)
    assert found[0].equal(found[1])


def test_the_memory_stays_in_its_bounds():
    """8,142 classes and a bank in half precision. The scores of all queries at once would take 260 MiB."""
    bank, query = torch.randn(60_000, 64).half(), torch.randn(8_000, 64)
    label = torch.arange(60_000) % 8142
    list(votes(bank[:100], label[:100], query[:10], classes=8142, memory_mib=24))  # compiled and warm
    memory = PeakMemory()
    before = host_mib("VmRSS")
    rows = 0
    for scores in votes(bank, label, query, classes=8142, k=20, memory_mib=24):
        rows += len(scores)
    assert rows == 8_000
    assert memory.host_mib - before < 24 + 76, "and what allocators and threads keep: far from 260"


def test_it_refuses_what_it_cannot_judge(sets):
    bank, label, query, query_label = sets
    for broken in (float("nan"), float("inf")):
        spoilt = bank.clone()
        spoilt[50, 3] = broken
        with pytest.raises(ValueError, match="the bank features are not finite"):
            knn_top1(spoilt, label, query, query_label)
        with pytest.raises(ValueError, match="the query features are not finite"):
            knn_top1(bank, label, spoilt, query_label)
    with pytest.raises(ValueError, match="query features are empty"):
        knn_top1(bank, label, query[:0], query_label[:0])
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        knn_top1(bank, label, query, query_label, k=0)
    with pytest.raises(ValueError, match="the memory is too little for features of 12 numbers and k = 200"):
        next(votes(bank, label, query, classes=5, memory_mib=0.01))


@pytest.mark.parametrize("by", [search._search_cpu, search._search_torch])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_both_searches_name_what_is_not_finite_in_whichever_chunk(sets, by, broken):
    bank, query = sets[0], sets[2]
    for row in (0, 150, len(bank) - 1):
        spoilt = bank.clone()
        spoilt[row, 3] = broken
        with pytest.raises(ValueError, match="the bank features are not finite"):
            by(spoilt, query, 5, search.Plan(len(query), 40, 100), CPU)
        with pytest.raises(ValueError, match="the query features are not finite"):
            by(bank, spoilt, 5, search.Plan(len(spoilt), 40, 100), CPU)


def test_tf32_is_off_only_while_it_searches(sets):
    torch.set_float32_matmul_precision("medium")
    try:
        search._search_torch(sets[0], sets[2], 5, search.Plan(300, 100, 100), CPU)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
