"""What every method keeps to, and what SimCLR and supervised training compute."""

import pytest
import torch

from loaders.views import View
from methods import backbones, precision, registry
from methods.backbones import Backbone
from methods.losses.infonce import nt_xent
from methods.simclr import SimCLROptions
from methods.supervised import SupervisedOptions

NEEDS = {"simclr": 2, "supervised": 1}


@pytest.mark.parametrize("name", registry.METHODS)
def test_the_contract(name):
    entry = registry.entry(name)
    views = (View(16),) * NEEDS[name]
    method = entry.build(entry.options(name=name), backbones.build(Backbone(width=4)), views, 10)
    assert method.views == views
    x = tuple(torch.randn(6, 3, 16, 16) for _ in views)
    out = method.loss(x, torch.arange(6))
    assert out["loss"].shape == () and out["loss"].requires_grad
    out["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
    assert method.encode(x[0]).shape == (6, 16)
    method.after_step(0.5)
    with pytest.raises(ValueError, match=f"{name} takes"):
        entry.build(entry.options(name=name), backbones.build(Backbone(width=4)), (View(16),) * 3, 10)


def test_an_unknown_method_is_an_error_with_the_nearest():
    with pytest.raises(ValueError, match=r"'simclar': did you mean simclr\?"):
        registry.entry("simclar")


def test_simclr_pairs_the_views_of_an_image():
    torch.manual_seed(0)
    method = registry.entry("simclr").build(SimCLROptions(), backbones.build(Backbone(width=4)), (View(8),) * 2, 10)
    method.eval()  # BatchNorm then treats the two views alike, joined or apart
    x1, x2 = torch.randn(2, 5, 3, 8, 8)
    z1, z2 = (method.projector(method.encode(x)) for x in (x1, x2))
    assert torch.allclose(method.loss((x1, x2), torch.zeros(5))["loss"], nt_xent(z1, z2, 0.5), atol=1e-5)


def test_supervised_reports_its_accuracy():
    torch.manual_seed(0)
    method = registry.entry("supervised").build(SupervisedOptions(), backbones.build(Backbone(width=4)), (View(8),), 3)
    method.eval()
    x = torch.randn(8, 3, 8, 8)
    guess = method.classifier(method.encode(x)).argmax(1)
    label = guess.clone()
    label[:2] = (label[:2] + 1) % 3
    assert float(method.loss((x,), label)["accuracy"]) == 0.75


@pytest.mark.parametrize(
    ("backbone", "dim", "parameters"),
    [
        (Backbone(name="resnet-small", width=32), 128, 307_360),
        (Backbone(name="resnet18", stem="imagenet"), 512, 11_176_512),
        (Backbone(name="resnet18", stem="cifar"), 512, 11_168_832),
        (Backbone(name="resnet50", stem="imagenet"), 2048, 23_508_032),
    ],
)
def test_backbones_have_their_known_sizes(backbone, dim, parameters):
    encoder = backbones.build(backbone)
    assert encoder.dim == dim and sum(p.numel() for p in encoder.parameters()) == parameters
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, dim)


def test_the_fastest_precision_is_the_one_that_measures_fastest(monkeypatch):
    for fast, slow in (("bf16", "fp32"), ("fp32", "bf16")):
        monkeypatch.setattr(precision, "_seconds", {fast: 1.0, slow: 2.0}.get)
        assert precision.fastest(torch.device("cpu")) == fast
    monkeypatch.undo()
    assert precision.fastest(torch.device("cpu")) in ("fp32", "bf16")
