"""Moving averages: their arithmetic, their schedule, and that they get no gradient."""

import math

import pytest
import torch
from torch import nn

from twoview.methods import ema


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_the_average_after_three_steps_is_the_closed_form():
    torch.manual_seed(0)
    source = network().double()
    average = ema.frozen_copy(source)
    history = [[p.detach().clone() for p in source.parameters()]]
    for _ in range(3):
        for p in source.parameters():
            p.data.normal_()
        history.append([p.detach().clone() for p in source.parameters()])
        ema.follow(average, source, 0.9)
    shares = (0.9**3, 0.1 * 0.9**2, 0.1 * 0.9, 0.1)
    for number, p in enumerate(average.parameters()):
        expected = sum(share * past[number] for share, past in zip(shares, history, strict=True))
        assert torch.allclose(p, expected, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_the_ends_of_the_momentum(momentum):
    source, average = network(), ema.frozen_copy(network())
    before = [p.clone() for p in average.parameters()]
    ema.follow(average, source, momentum)
    expected = before if momentum else list(source.parameters())
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), expected, strict=True))


def test_no_gradient_and_its_own_statistics():
    source = network()
    average = ema.frozen_copy(source)
    assert not any(p.requires_grad for p in average.parameters())
    assert not average(torch.randn(5, 3)).requires_grad
    source(torch.randn(5, 3) + 7)
    own = average[1].running_mean.clone()
    ema.follow(average, source, 0.0)
    assert torch.equal(average[1].running_mean, own) and not torch.equal(own, source[1].running_mean)


def test_the_schedule_is_half_a_cosine():
    values = [ema.cosine(0.99, 1.0, progress) for progress in (0, 0.25, 0.5, 1)]
    assert values == pytest.approx([0.99, 1 - 0.01 * (1 + math.cos(math.pi / 4)) / 2, 0.995, 1.0], abs=1e-12)
    assert ema.cosine(0.99, 0.99, 0.3) == 0.99
