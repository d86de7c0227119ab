"""Orders are permutations, pure in (seed, epoch), uniform; subsets are balanced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from loaders.samplers import shuffled, subset


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
    with pytest.raises(ValueError, match=r"11 images was asked of 10"):
        subset(np.zeros(10, np.int64), 11, 0)
