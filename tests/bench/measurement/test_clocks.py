"""Quartiles and the steady state agree with what is known about the samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twoview.bench.measurement.clocks import spread, steady

SECONDS = st.floats(1e-4, 1e3)


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_quartiles_equal_numpys(samples):
    assert spread(samples) == tuple(np.percentile(samples, [50, 25, 75]))


def test_no_sample_has_no_median():
    with pytest.raises(ValueError, match="at least one sample"):
        spread([])


@given(st.integers(0, 20), st.integers(40, 80), SECONDS, st.floats(1.5, 100))
def test_slow_first_steps_are_skipped(slow, fast, level, factor):
    assert steady([factor * level] * slow + [level] * fast) == slow


@given(st.integers(10, 60), SECONDS, st.integers(0, 59))
def test_one_slow_step_does_not_end_the_steady_state(count, level, where):
    samples = [level] * count
    samples[where % count] = 50 * level
    assert steady(samples) == (1 if where % count == 0 else 0)


@given(st.lists(SECONDS, min_size=10, max_size=60), st.sampled_from([2**-10, 0.5, 1024.0]))
def test_the_unit_does_not_matter(samples, unit):
    assert steady(samples) == steady([unit * sample for sample in samples])


def test_a_slope_is_not_steady():
    assert steady([1.1**step for step in range(40)]) is None


def test_too_few_samples_have_no_steady_state():
    assert steady([1.0] * 9) is None and steady([1.0] * 10) == 0
