"""BYOL: what predicts what, and how the target network is updated."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from twoview.loaders.views import View
from twoview.methods import backbones
from twoview.methods.backbones import Backbone
from twoview.methods.byol import BYOL, BYOLOptions


def make(**options):
    torch.manual_seed(0)
    settings = BYOLOptions(hidden=8, projection=6, predictor=8, **options)
    return BYOL(settings, backbones.build(Backbone(width=8)), (View(8), View(8)), 2)


def test_the_loss_is_the_paper_s_both_ways():
    method = make().eval()
    x1, x2 = torch.randn(2, 5, 3, 8, 8)
    expected = 0.0
    for one, other in ((x1, x2), (x2, x1)):
        prediction = method.predictor(method.projector(method.encoder(one)))
        expected += (F.normalize(prediction, dim=1) - F.normalize(method.target(other), dim=1)).square().sum(1).mean()
    assert float(method.loss((x1, x2), torch.zeros(5))["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_the_target_starts_equal_and_follows_along_half_a_cosine():
    method = make(momentum=0.9, final_momentum=1.0)
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    target = list(method.target.parameters())
    assert all(torch.equal(a, b) for a, b in zip(online, target, strict=True))
    before = copy.deepcopy(target)
    for parameter in online:
        parameter.data.add_(1)
    method.after_step(0.5)
    step = 0.1 * (math.cos(math.pi / 2) + 1) / 2
    assert all(torch.allclose(t, b + step, atol=1e-6) for t, b in zip(target, before, strict=True))
    before = copy.deepcopy(target)
    method.after_step(1.0)
    assert all(torch.equal(t, b) for t, b in zip(target, before, strict=True))


def test_each_view_has_its_own_statistics():
    method, sizes = make(), []
    method.encoder.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    method.loss(tuple(torch.randn(2, 5, 3, 8, 8)), torch.zeros(5))
    assert sizes == [5, 5]
