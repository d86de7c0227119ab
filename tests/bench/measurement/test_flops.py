"""Counts agree with closed forms, and the ceiling with the matrix product that it was measured with."""

import statistics

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.support.small_methods import METHODS, batch, make
from twoview.bench.measurement import flops
from twoview.methods.accumulate import divide


def test_flops_of_a_linear_layer():
    layer, x = nn.Linear(30, 20), torch.ones(7, 30)
    forward = 2 * 7 * 30 * 20
    assert flops.counted(lambda: layer(x).sum()) == 2 * forward, "forward, and the weights' gradient"
    x.requires_grad_()
    assert flops.counted(lambda: layer(x).sum()) == 3 * forward, "and the input's"


def test_flops_of_a_convolution():
    layer, x = nn.Conv2d(3, 8, 3, padding=1), torch.ones(2, 3, 16, 16)
    assert flops.counted(lambda: layer(x).sum()) == 2 * (2 * 2 * 16 * 16 * 8 * 27)


@pytest.mark.parametrize("name", METHODS)
def test_flops_of_a_method_are_torchs_and_do_not_grow_when_its_encoder_runs_again(name):
    """But for a thousandth: each part resizes the position embeddings anew where a ViT's views have another size."""
    method = make(name).train()
    one = batch(method, images=8)

    def loss():
        return method.loss(*one)["loss"]

    with FlopCounterMode(display=False) as theirs:
        loss().backward()
    assert flops.counted(loss) == theirs.get_total_flops() > 0
    divide(method, 4, "off")
    assert flops.counted(loss) == pytest.approx(theirs.get_total_flops(), rel=2e-3)


def test_flops_of_a_compiled_part_are_counted():
    method = make("supervised").train()
    one = batch(method, images=8)
    whole = flops.counted(lambda: method.loss(*one)["loss"])
    divide(method, 2, "default")
    assert flops.counted(lambda: method.loss(*one)["loss"]) == whole


def test_the_measured_product_reaches_the_ceiling():
    ceiling = statistics.median(flops.matrix_ceiling(torch.device("cpu"), torch.float32, side=256))
    assert 1e8 < ceiling < 1e14
    assert flops.mfu(2 * 256**3, 2 * 256**3 / ceiling, ceiling) == pytest.approx(1)
    assert flops.mfu(100, 2.0, 200.0) == 0.25
