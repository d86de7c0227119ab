"""The times of steps and of waits are kept apart."""

import time
from types import SimpleNamespace

import pytest
import torch

from twoview.bench.measurement.clocks import spread
from twoview.methods import clock as module
from twoview.methods.clock import StepClock

CPU = torch.device("cpu")


def test_a_wait_is_no_step_and_a_warm_up_is_neither(monkeypatch):
    """With a clock that advances only when it is told to."""
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def slow_batches():
        for seconds in (5.0, 5.0, 3.0, 4.0, 3.0):
            now[0] += seconds
            yield seconds

    clock = StepClock(CPU, warmup=2)
    for _ in clock.batches(slow_batches()):
        with clock.step():
            now[0] += 1.0
    clock.read()
    assert clock.warmup_seconds == [1.0, 1.0]
    assert clock.wait_seconds == [3.0, 4.0, 3.0] and clock.step_seconds == [1.0, 1.0, 1.0]


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
