"""Counts agree with closed forms, and the ceiling with the matrix product that it was measured with."""

import statistics

import pytest
import torch
from torch import nn

from twoview.bench.measurement import flops


def test_flops_of_a_linear_layer():
    layer, x = nn.Linear(30, 20), torch.ones(7, 30)
    forward = 2 * 7 * 30 * 20
    assert flops.counted(lambda: layer(x).sum()) == 2 * forward, "forward, and the weights' gradient"
    x.requires_grad_()
    assert flops.counted(lambda: layer(x).sum()) == 3 * forward, "and the input's"


def test_flops_of_a_convolution():
    layer, x = nn.Conv2d(3, 8, 3, padding=1), torch.ones(2, 3, 16, 16)
    assert flops.counted(lambda: layer(x).sum()) == 2 * (2 * 2 * 16 * 16 * 8 * 27)


def test_the_measured_product_reaches_the_ceiling():
    ceiling = statistics.median(flops.matrix_ceiling(torch.device("cpu"), torch.float32, side=256))
    assert 1e8 < ceiling < 1e14
    assert flops.mfu(2 * 256**3, 2 * 256**3 / ceiling, ceiling) == pytest.approx(1)
    assert flops.mfu(100, 2.0, 200.0) == 0.25
