"""Kernel-InfoNCE: which loss its options select, and that the Gaussian kernel is SimCLR."""

import pytest
import torch
from pydantic import ValidationError

from twoview.loaders.views import View
from twoview.methods import backbones
from twoview.methods.backbones import Backbone
from twoview.methods.kernel_infonce import KernelInfoNCE, KernelInfoNCEOptions
from twoview.methods.losses.kernel import concat, kernel_infonce, kernel_sum, mixed_kernel
from twoview.methods.losses.spectral import spectral
from twoview.methods.simclr import SimCLR, SimCLROptions

VIEWS = (View(8), View(8))


def make(**options):
    torch.manual_seed(0)
    settings = {"hidden": 8, "projection": 6, **options}
    return KernelInfoNCE(KernelInfoNCEOptions(**settings), backbones.build(Backbone(width=8)), VIEWS, 2)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_the_gaussian_kernel_at_t_is_simclr_at_half_of_t(temperature):
    ours = make(gamma=2.0, temperature=temperature)
    simclr = SimCLR(
        SimCLROptions(hidden=8, projection=6, temperature=temperature / 2), backbones.build(Backbone(width=8)), VIEWS, 2
    )
    simclr.load_state_dict({**ours.state_dict(), "projector.3.bias": torch.zeros(6)})
    views = tuple(torch.randn(2, 7, 3, 8, 8))
    losses = [method.loss(views, torch.zeros(7))["loss"] for method in (ours, simclr)]
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, rtol=1e-5)
    for a, b in zip(ours.encoder.parameters(), simclr.encoder.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({"gamma": 0.5, "temperature": 0.3}, lambda a, b: kernel_infonce(a, b, 0.5, 0.3)),
        ({"loss": "sum", "gamma": 1.0, "weight": 0.2}, lambda a, b: kernel_sum(a, b, (1.0, 2.0), (0.5, 0.5), 0.2)),
        (
            {"loss": "sum-kernel", "gamma": 1.0, "gamma2": 0.5, "temperature2": 0.3},
            lambda a, b: mixed_kernel(a, b, (1.0, 0.5), (0.5, 0.3), 0.5),
        ),
        ({"loss": "concat", "gamma": 1.0}, lambda a, b: concat(a, b, (1.0, 2.0), (0.5, 0.5), 0.5, True)),
        (
            {"loss": "concat", "gamma": 1.0, "joint": False},
            lambda a, b: concat(a, b, (1.0, 2.0), (0.5, 0.5), 0.5, False),
        ),
        ({"loss": "spectral"}, spectral),
    ],
)
def test_the_options_name_the_loss(options, loss):
    method = make(**options).eval()
    x1, x2 = torch.randn(2, 5, 3, 8, 8)
    z1, z2 = (method.projector(method.encoder(x)) for x in (x1, x2))
    assert torch.allclose(method.loss((x1, x2), torch.zeros(5))["loss"], loss(z1, z2), atol=1e-5)


def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"method\.projection must be even for the loss concat, got 5"):
        make(loss="concat", projection=5)
    for options in ({"gamma": 0}, {"gamma": 2.1}, {"temperature": 0}, {"weight": 1.1}):
        (key,) = options
        with pytest.raises(ValidationError, match=key):
            KernelInfoNCEOptions(**options)
