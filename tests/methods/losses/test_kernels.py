"""Kernel-InfoNCE: cases that reduce to NT-Xent, the official code's results, and gamma below 1 at distance 0."""

import math

import pytest
import torch

from tests.support.definitions import kernel_definition
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.kernel import concat, exponential, kernel_infonce, kernel_sum, mixed_kernel


def views(batch=24, width=12, dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(2, batch, width, dtype=dtype).unbind()


def official(z1, z2, gamma, temperature, floor=1e-6):
    """`gamma_loss` of Kernel-InfoNCE's simclr_module.py, with its floor as an argument."""
    z1, z2 = (torch.nn.functional.normalize(z, dim=1) for z in (z1, z2))
    z = torch.cat([z1, z2])
    sim = torch.exp(-torch.cdist(z, z).pow(gamma) / temperature)
    neg = (sim.sum(-1) - sim.diag()).clamp(min=floor)
    pos = torch.exp(-(z1 - z2).norm(dim=-1).pow(gamma) / temperature).repeat(2)
    return -torch.log(pos / (neg + floor)).mean()


@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0, 4.0])
def test_the_gaussian_is_nt_xent_at_half_the_temperature(temperature):
    z1, z2 = views()
    assert torch.allclose(kernel_infonce(z1, z2, 2, temperature), nt_xent(z1, z2, temperature / 2))
    assert torch.allclose(kernel_infonce(z1, z2, 2 - 1e-9, temperature), nt_xent(z1, z2, temperature / 2), rtol=1e-6)


@pytest.mark.parametrize("gamma", [2, 1, 0.5])
def test_the_official_loss_where_its_floor_does_not_count(gamma):
    z1, z2 = views()
    assert torch.allclose(kernel_infonce(z1, z2, gamma, 0.5), official(z1, z2, gamma, 0.5, floor=0))
    assert float(kernel_infonce(z1, z2, gamma, 0.5)) == pytest.approx(float(official(z1, z2, gamma, 0.5)), rel=1e-4)


def test_the_officials_floor_is_what_breaks_small_temperatures():
    z1, z2 = views(dtype=torch.float32)
    assert not math.isfinite(official(z1, z2, 2, 0.01))
    assert float(kernel_infonce(z1, z2, 2, 0.01)) == pytest.approx(kernel_definition(z1, z2, 2, 0.01), rel=1e-5)


def test_mixtures_of_a_kernel_with_itself_are_that_kernel():
    z1, z2 = views()
    alone = kernel_infonce(z1, z2, 1, 0.4)
    for mixture in (kernel_sum, mixed_kernel):
        assert torch.allclose(mixture(z1, z2, (1, 1), (0.4, 0.4), 0.3), alone)
        assert torch.allclose(mixture(z1, z2, (1, 2), (0.4, 0.9), 1), alone)
        assert torch.allclose(mixture(z1, z2, (2, 1), (0.9, 0.4), 0), alone)
    mixed = [mixture(z1, z2, (1, 2), (0.4, 0.9), 0.5) for mixture in (kernel_sum, mixed_kernel)]
    assert not torch.allclose(*mixed), "a mixture of losses is not the loss of a mixture"


def test_halves_normalized_as_a_whole_or_apart():
    """With halves of equal length, each half of the unit vector is 1/sqrt(2) long, so squared distances are halved."""
    z1, z2 = (torch.cat([torch.nn.functional.normalize(half, dim=1) for half in z.chunk(2, 1)], 1) for z in views())
    joint = concat(z1, z2, (2, 2), (0.2, 0.2), 0.3, True)
    assert torch.allclose(joint, concat(z1, z2, (2, 2), (0.4, 0.4), 0.3, False))
    first = kernel_infonce(z1[:, :6], z2[:, :6], 1, 0.4)
    assert torch.allclose(concat(z1, z2, (1, 2), (0.4, 0.4), 1, False), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.25, 0.5, 1])
def test_equal_vectors_are_at_distance_0_and_pull_with_a_finite_gradient(gamma, dtype):
    z1, _ = views(dtype=dtype)
    z1.requires_grad_()
    loss = kernel_infonce(z1, z1.detach().clone(), gamma, 0.5)
    assert loss.item() == pytest.approx(kernel_definition(z1.detach(), z1.detach(), gamma, 0.5), rel=1e-4)
    loss.backward()
    assert z1.grad.isfinite().all() and z1.grad.abs().sum() > 0, "the negatives still push"
    everyone = torch.ones(24, 12, dtype=dtype)
    assert float(kernel_infonce(everyone, everyone, gamma, 0.005)) == pytest.approx(math.log(47), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_no_anomaly_in_the_backward_pass_at_distance_0():
    z = torch.ones(4, 2, requires_grad=True)
    with torch.autograd.detect_anomaly(check_nan=True):
        kernel_infonce(z, z, 0.25, 0.1).backward()


def test_the_slope_at_the_smallest_distance_that_counts():
    """d^0.25 at d^2 = 17 units in the last place: steep, but far from overflow."""
    cosine = torch.tensor(1 - 17 * torch.finfo(torch.float32).eps, requires_grad=True)
    exponential(cosine, 0.25, 0.005).backward()
    assert math.isfinite(cosine.grad) and cosine.grad > 1e6
