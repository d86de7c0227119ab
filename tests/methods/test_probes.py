"""kNN against its plain float64 definition."""

import numpy as np
import pytest
import torch

from twoview.methods.probes.knn import knn_top1


@pytest.fixture(scope="module")
def clusters():
    """Return three overlapping Gaussian clusters in 12 dimensions: features and labels of 400 and 300 points."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(3, 12, generator=generator)
    train_label, test_label = (torch.randint(0, 3, (n,), generator=generator) for n in (400, 300))
    train, test = (
        centers[label] + 1.3 * torch.randn(len(label), 12, generator=generator) for label in (train_label, test_label)
    )
    return train, train_label, test, test_label


def knn_by_loops(bank, bank_label, query, query_label, k, temperature):
    bank, query = bank.double(), query.double()
    right = 0
    for row, label in zip(query, query_label.tolist(), strict=True):
        cosine = [float(row @ other / row.norm() / other.norm()) for other in bank]
        nearest = sorted(range(len(bank)), key=lambda i: -cosine[i])[:k]
        votes = [0.0, 0.0, 0.0]
        for i in nearest:
            votes[int(bank_label[i])] += np.exp(cosine[i] / temperature)
        right += int(np.argmax(votes)) == label
    return 100 * right / len(query)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (20, 0.1), (200, 0.07), (1000, 0.5)])
def test_knn_is_its_definition(clusters, k, temperature):
    expected = knn_by_loops(*clusters, k, temperature)
    assert 40 < expected < 100
    assert knn_top1(*clusters, k=k, temperature=temperature) == pytest.approx(expected, abs=1e-9)


def test_knn_in_chunks_is_knn_at_once(clusters):
    train, train_label, test, test_label = clusters
    many, labels = test.repeat(10, 1), test_label.repeat(10)  # 3,000 queries, three chunks
    assert knn_top1(train, train_label, many, labels) == pytest.approx(knn_top1(*clusters))


def test_knn_finds_itself(clusters):
    train, label, *_ = clusters
    assert knn_top1(train, label, train, label, k=1) == 100


def test_knn_refuses_what_it_cannot_judge(clusters):
    train, train_label, test, test_label = clusters
    with pytest.raises(ValueError, match="bank features are not finite"):
        knn_top1(train * float("nan"), train_label, test, test_label)
    with pytest.raises(ValueError, match="query features are empty"):
        knn_top1(train, train_label, test[:0], test_label[:0])
