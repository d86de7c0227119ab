"""Orders are uniform permutations that depend only on (seed, epoch). Subsets are balanced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from twoview.loaders.samplers import classes_a_batch, long_tail, share, shuffled, subset


@given(count=st.integers(1, 500), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**31))
def test_shuffled_is_a_pure_permutation(count, seed, epoch):
    order = shuffled(count, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(count))
    assert np.array_equal(order, shuffled(count, seed, epoch))


def test_every_place_is_equally_likely():
    firsts = np.bincount([shuffled(10, seed, 0)[0] for seed in range(5000)], minlength=10)
    assert chisquare(firsts).pvalue > 0.01
    assert not np.array_equal(shuffled(100, 0, 0), shuffled(100, 0, 1))


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 100),
)
def test_a_subset_is_as_balanced_as_it_can_be(labels, share, seed):
    count = max(1, int(share * len(labels)))
    chosen = subset(labels, count, seed)
    assert len(chosen) == count == len(set(chosen.tolist())) and (np.diff(chosen) > 0).all()
    have, got = np.bincount(labels, minlength=5), np.bincount(labels[chosen], minlength=5)
    exhausted = got == have
    # A class that could have given more never has two fewer than another.
    assert (got[~exhausted] >= got.max() - 1).all()


def test_a_subset_larger_than_the_data_is_an_error():
    with pytest.raises(ValueError, match=r"a subset must have at most 10 images, got 11"):
        subset(np.zeros(10, np.int64), 11, 0)


labeled = st.lists(st.integers(0, 6), min_size=20, max_size=120).map(np.array)


@given(labels=labeled, data=st.data(), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 50), replace=st.booleans())
def test_every_batch_has_exactly_k_classes_equally(labels, data, seed, epoch, replace):
    names = np.unique(labels)
    classes = data.draw(st.integers(1, len(names)))
    batch = data.draw(st.integers(classes, 20))
    order = classes_a_batch(labels, batch, classes, seed, epoch, replace)
    assert len(order) == len(labels) // batch * batch and order.dtype == np.int64
    assert np.array_equal(order, classes_a_batch(labels, batch, classes, seed, epoch, replace))
    taken = dict.fromkeys(names.tolist(), 0)
    for places in order.reshape(-1, batch):
        held, counts = np.unique(labels[places], return_counts=True)
        assert len(held) == classes and counts.max() - counts.min() == (batch % classes > 0)
        for name in held.tolist():
            taken[name] += 1
        assert max(taken.values()) - min(taken.values()) <= 1
    if not replace:
        seen = np.bincount(order, minlength=len(labels))
        for name in names:
            assert np.ptp(seen[labels == name]) <= 1, "no image comes again before all of its class have come"


@given(
    classes=st.integers(1, 4),
    parts=st.integers(1, 4),
    part=st.integers(4, 9),
    size=st.integers(3, 9),
    replace=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_rank_has_k_classes_that_no_other_rank_has(classes, parts, part, size, replace, seed):
    count = 16
    labels = np.repeat(np.arange(count), size)
    order = classes_a_batch(labels, parts * part, classes, seed, 0, replace, parts)
    assert len(order) == len(labels) // (parts * part) * parts * part
    shares = [share(len(order), part, rank, parts, drop_last=True) for rank in range(parts)]
    for number in range(len(order) // (parts * part)):
        held = [np.unique(labels[order[places[number]]], return_counts=True) for places in shares]
        assert all(len(names) == classes and np.ptp(counts) <= 1 for names, counts in held)
        assert len(np.unique(np.concatenate([names for names, _ in held]))) == parts * classes
    batches = len(order) // (parts * part)
    takes = np.array([batches * parts * classes // count, -(-batches * parts * classes // count)])
    seen = np.bincount(labels[order], minlength=count)
    assert (takes[0] * (part // classes) <= seen).all() and (seen <= takes[1] * -(-part // classes)).all()
    if not replace:
        images = np.bincount(order, minlength=len(labels)).reshape(count, size)
        assert (np.ptp(images, axis=1) <= 1).all()


def test_all_classes_a_batch_of_balanced_labels_is_a_permutation():
    labels = np.arange(600) % 10
    order = classes_a_batch(labels, 60, 10, 3, 0)
    assert np.array_equal(np.sort(order), np.arange(600))
    assert not np.array_equal(order, classes_a_batch(labels, 60, 10, 3, 1))


@pytest.mark.parametrize("replace", [False, True])
def test_every_image_of_balanced_labels_is_seen_equally_often(replace):
    labels = np.arange(60) % 10
    orders = [classes_a_batch(labels, 12, 4, 0, epoch, replace) for epoch in range(400)]
    assert chisquare(np.bincount(np.concatenate(orders), minlength=60)).pvalue > 0.01
    firsts = np.bincount([labels[order[0]] for order in orders], minlength=10)
    assert chisquare(firsts).pvalue > 0.01


def test_ranks_together_see_the_k_classes_of_a_global_batch():
    labels = np.arange(1000) % 20
    order = classes_a_batch(labels, 64, 8, 0, 0)
    for number in range(len(order) // 64):
        parts = [labels[order[share(len(order), 16, rank, 4, True)[number]]] for rank in range(4)]
        assert len(np.unique(np.concatenate(parts))) == 8


def test_a_long_tail_s_classes_are_taken_equally_often():
    """With unequal classes, batches of K classes repeat rare images as often as their class is drawn."""
    labels = np.repeat(np.arange(4), [60, 20, 12, 8])
    counts = np.bincount(labels[classes_a_batch(labels, 10, 2, 0, 0)])
    assert counts.tolist() == [25] * 4


@pytest.mark.parametrize(
    ("batch", "classes", "parts", "complaint"),
    [
        (8, 11, 1, "classes must be from 1 to 10 in all, .* got 11"),
        (8, 0, 1, "classes must be from 1 to 10 in all, .* got 0"),
        (3, 4, 1, "classes must be at most 3, the images .* got 4"),
        (24, 4, 3, "classes must be from 1 to 10 in all, .* got 4 for each of 3 parts of a batch"),
        (25, 2, 3, "parts must divide a batch of 25 images equally, got 3"),
        (9, 4, 2, "parts must divide .* got 2"),
    ],
)
def test_impossible_batches_are_errors(batch, classes, parts, complaint):
    with pytest.raises(ValueError, match=complaint):
        classes_a_batch(np.arange(100) % 10, batch, classes, 0, 0, parts=parts)


def test_cifar_100_lt_has_the_counts_of_its_authors():
    """Cao et al.'s imbalance_cifar.py: int(500 * 0.01 ** (c / 99))."""
    labels = np.arange(50_000) % 100
    chosen = long_tail(labels, 100, "exponential", 0)
    counts = np.bincount(labels[chosen], minlength=100)
    assert counts.tolist() == [int(500 * 0.01 ** (c / 99.0)) for c in range(100)] and len(chosen) == 10_847


@given(labels=labeled, ratio=st.floats(1, 500), kind=st.sampled_from(["exponential", "power"]), seed=st.integers(0, 9))
def test_a_long_tail_falls_by_the_ratio_and_takes_what_there_is(labels, ratio, kind, seed):
    chosen = long_tail(labels, ratio, kind, seed)
    assert (np.diff(chosen) > 0).all() and np.array_equal(chosen, long_tail(labels, ratio, kind, seed))
    names, have = np.unique(labels, return_counts=True)
    counts = np.array([np.sum(labels[chosen] == name) for name in names])
    assert (counts >= 1).all() and (counts <= have).all() and (np.diff(counts) <= 0).all()
    if len(names) > 1 and counts[-1] > 1:
        assert counts[0] / (counts[-1] + 1) < ratio < (counts[0] + 1) / counts[-1] + 1e-6


def test_a_power_law_is_straight_in_logarithms():
    labels = np.arange(100_000) % 10
    counts = np.bincount(labels[long_tail(labels, 50, "power", 0)])
    slopes = np.diff(np.log(counts)) / np.diff(np.log(np.arange(1, 11)))
    assert slopes == pytest.approx(-np.log(50) / np.log(10), abs=0.02)


def test_a_bad_imbalance_is_an_error():
    with pytest.raises(ValueError, match=r"ratio must be at least 1, got 0\.5"):
        long_tail(np.zeros(5, np.int64), 0.5, "exponential", 0)
    with pytest.raises(ValueError, match="unknown kind of imbalance 'linear': choose one of exponential, power"):
        long_tail(np.zeros(5, np.int64), 2, "linear", 0)
