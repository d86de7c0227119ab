"""MoCo: the order of the queue, which pairs are compared, and the momentum encoder."""

import pytest
import torch
import torch.nn.functional as F

from twoview.loaders.views import View
from twoview.methods import backbones
from twoview.methods.backbones import Backbone
from twoview.methods.moco import MoCo, MoCoOptions


def make(**options):
    torch.manual_seed(0)
    settings = {"hidden": 8, "projection": 6, "queue": 12, **options}
    return MoCo(MoCoOptions(**settings), backbones.build(Backbone(width=8)), (View(8), View(8)), 2)


def two_views(seed):
    return tuple(torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(seed)))


def test_the_queue_holds_the_newest_keys_first_and_drops_the_oldest():
    method = make().eval()
    start, place = method.queue.clone(), method.queue.data_ptr()
    keys = []
    for seed in range(3):
        views = two_views(seed)
        queue = method.queue.clone()
        method.loss(views, torch.zeros(5))
        assert torch.equal(method.queue, queue), "the backward pass needs the old keys"
        keys.insert(0, F.normalize(method.key_network(views[1]), dim=1))
        method.after_step(0.3)
        assert method.queue.data_ptr() == place
    expected = torch.cat([*keys, start])[:12]
    assert torch.allclose(method.queue, expected, atol=1e-6) and not method.queue.requires_grad


def test_a_queue_shorter_than_the_batch_keeps_its_length():
    method = make(queue=3)
    method.loss(two_views(0), torch.zeros(5))
    method.after_step(0.3)
    assert method.queue.shape == (3, 6)


@pytest.mark.parametrize("include_positive", [True, False])
def test_the_loss_is_moco_s(include_positive):
    """He et al. 2020, algorithm 1: cross entropy of [q.k+, q.queue] / tau, tau = T / 2."""
    method = make(temperature=0.4, include_positive=include_positive).eval()
    x1, x2 = two_views(0)
    query = F.normalize(method.projector(method.encoder(x1)), dim=1)
    key = F.normalize(method.key_network(x2), dim=1)
    positive = (query * key).sum(1, keepdim=True) / 0.2
    negatives = query @ method.queue.T / 0.2
    candidates = torch.cat([positive, negatives], 1) if include_positive else negatives
    expected = (candidates.logsumexp(1) - positive[:, 0]).mean()
    assert float(method.loss((x1, x2), torch.zeros(5))["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_the_sum_weighs_two_losses():
    views = two_views(0)

    def loss(**options):
        return float(make(include_positive=False, **options).eval().loss(views, torch.zeros(5))["loss"])

    both = loss(loss="sum", gamma=1.0, temperature=0.1, gamma2=2.0, temperature2=0.3, weight=0.2)
    expected = 0.2 * loss(gamma=1.0, temperature=0.1) + 0.8 * loss(gamma=2.0, temperature=0.3)
    assert both == pytest.approx(expected, rel=1e-5)


def test_the_momentum_encoder_follows_encoder_and_projector():
    method = make(momentum=0.75)
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    before = [p.clone() for p in method.key_network.parameters()]
    for parameter in online:
        parameter.data.add_(1)
    method.after_step(0.3)
    for p, b in zip(method.key_network.parameters(), before, strict=True):
        assert torch.allclose(p, b + 0.25, atol=1e-6)
