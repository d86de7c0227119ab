"""The random numbers: Philox4x32-10's published test vectors, the range, and every part of the counter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from twoview.loaders import rng
from twoview.loaders.ops import blur, crop, flip
from twoview.loaders.views import OPS

ALL = 0xFFFFFFFF

# From Random123's file of known answers (kat_vectors): key, counter, result, in words of 32 bits, lowest first.
KNOWN = [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL, ALL), (ALL, ALL, ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0xA4093822, 0x299F31D0),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("key", "counter", "result"), KNOWN)
def test_known_answers(key, counter, result):
    assert rng.philox(np.uint64(key[0] | key[1] << 32), *counter) == result


@given(
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 2**32 - 1),
    sample=st.integers(0, 2**32 - 1),
    view=st.integers(0, 65535),
    draw=st.integers(0, 1000),
)
def test_range_and_repetition(seed, epoch, sample, view, draw):
    number = rng.uniform(seed, epoch, sample, view, crop.STREAM, draw)
    assert 0 <= number < 1
    assert number == rng.uniform(seed, epoch, sample, view, crop.STREAM, draw)
    assert number == rng.uniforms(seed, epoch, np.array([sample]), view, crop.STREAM, draw)[0]


@pytest.mark.parametrize("part", range(6))
def test_every_part_of_the_counter_counts(part):
    base = [7, 1, 2, 3, blur.STREAM, 5]
    numbers = set()
    for value in range(1000):
        base[part] = value
        numbers.add(rng.uniform(*base))
    assert len(numbers) == 1000
    assert stats.kstest(sorted(numbers), "uniform").pvalue > 0.01


def test_no_two_things_are_drawn_from_the_same_numbers():
    of_ops = [crop.STREAM, flip.STREAM, *(op.stream for op in OPS.values())]
    others = [value for name, value in vars(rng).items() if name.isupper() and not name.startswith("_")]
    assert sorted(of_ops + others) == list(range(len(of_ops) + len(others)))
