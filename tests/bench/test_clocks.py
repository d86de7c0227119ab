"""Steps and waits are told apart; quartiles and the steady state agree with what is known of the samples."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.clocks import StepClock, spread, steady

CPU = torch.device("cpu")
SECONDS = st.floats(1e-4, 1e3)


def slow_batches(count: int, seconds: float):
    for number in range(count):
        time.sleep(seconds)
        yield number


def test_a_wait_is_no_step_and_a_warm_up_is_neither():
    clock = StepClock(CPU, warmup=2)
    for _ in clock.batches(slow_batches(5, 0.03)):
        with clock.step():
            time.sleep(0.01)
    clock.read()
    assert len(clock.warmup_seconds) == 2 and len(clock.step_seconds) == len(clock.wait_seconds) == 3
    assert min(clock.step_seconds) >= 0.01 and min(clock.wait_seconds) >= 0.03
    assert spread(clock.step_seconds).median < 0.03, "the wait is not in it"


def test_a_step_without_a_wait_waited_for_nothing():
    clock = StepClock(CPU)
    with clock.step():
        pass
    assert clock.wait_seconds == [0.0] and len(clock.step_seconds) == 1


def test_a_step_that_raises_is_not_counted():
    clock = StepClock(CPU)
    with pytest.raises(FloatingPointError), clock.step():
        raise FloatingPointError
    assert not clock.step_seconds


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_events_agree_with_the_host_clock():
    device = torch.device("cuda")
    x = torch.randn(4096, 4096, device=device)
    clock = StepClock(device, warmup=2)
    for _ in clock.batches(range(12)):
        with clock.step():
            for _ in range(20):
                x = (x @ x).clamp(-1, 1)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        x = (x @ x).clamp(-1, 1)
    torch.cuda.synchronize()
    host = time.perf_counter() - start
    clock.read()
    assert spread(clock.step_seconds).median == pytest.approx(host, rel=0.2)
    assert sum(clock.wait_seconds) < 0.05 * sum(clock.step_seconds), "the host is ahead: the device never waits"


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_quartiles_are_numpys(samples):
    assert spread(samples) == tuple(np.percentile(samples, [50, 25, 75]))


def test_no_sample_has_no_median():
    with pytest.raises(ValueError, match="at least one sample"):
        spread([])


@given(st.integers(0, 20), st.integers(40, 80), SECONDS, st.floats(1.5, 100))
def test_what_is_slow_at_first_is_left_out(slow, fast, level, factor):
    assert steady([factor * level] * slow + [level] * fast) == slow


@given(st.integers(10, 60), SECONDS, st.integers(0, 59))
def test_one_slow_step_does_not_unsettle(count, level, where):
    samples = [level] * count
    samples[where % count] = 50 * level
    assert steady(samples) == (1 if where % count == 0 else 0)


@given(st.lists(SECONDS, min_size=10, max_size=60), st.sampled_from([2**-10, 0.5, 1024.0]))
def test_the_unit_does_not_matter(samples, unit):
    assert steady(samples) == steady([unit * sample for sample in samples])


def test_a_slope_is_not_steady():
    assert steady([1.1**step for step in range(40)]) is None


def test_too_few_samples_say_nothing():
    assert steady([1.0] * 9) is None and steady([1.0] * 10) == 0
