"""Balanced contrastive learning: reduction to SimCLR, debiased prototypes, bias and prior."""

import math

import pytest
import torch
import torch.nn.functional as F

from twoview.loaders.views import View
from twoview.methods import backbones
from twoview.methods.backbones import Backbone
from twoview.methods.balanced import Balanced, BalancedOptions
from twoview.methods.losses.balanced import balanced
from twoview.methods.simclr import SimCLR, SimCLROptions

VIEWS = (View(8), View(8, flip=0.0))
LABEL = torch.tensor([0, 0, 0, 1, 1, 2])


def make(**options):
    torch.manual_seed(0)
    settings = {"hidden": 8, "projection": 6, **options}
    return Balanced(BalancedOptions(**settings), backbones.build(Backbone(width=8)), VIEWS, 4)


def images(method, seed=0):
    return tuple(torch.randn(len(method.views), 6, 3, 8, 8, generator=torch.Generator().manual_seed(seed)))


def projections(method, views):
    """Return float32 (m + 1, 6, d) of unit length, from a method in evaluation mode."""
    return F.normalize(torch.stack([method.projector(method.encoder(x)) for x in views]), dim=2)


def test_with_one_view_and_equal_weights_it_is_simclr():
    ours = make(temperature=0.3)
    simclr = SimCLR(
        SimCLROptions(hidden=8, projection=6, temperature=0.3), backbones.build(Backbone(width=8)), VIEWS, 4
    )
    simclr.load_state_dict({key: value for key, value in ours.state_dict().items() if key != "seen"})
    views = images(ours)
    losses = [method.loss(views, LABEL)["loss"] for method in (ours, simclr)]
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, rtol=1e-6)
    for a, b in zip(ours.parameters(), simclr.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_the_second_view_is_drawn_m_times_and_averaged(m):
    method = make(prototype_views=m).eval()
    assert method.views == (VIEWS[0], *[VIEWS[1]] * m)
    views = images(method)
    z = projections(method, views)
    expected = balanced(z[0], z[1:].mean(0), 0.5)
    assert torch.allclose(method.loss(views, LABEL)["loss"], expected, atol=1e-5)


def test_the_oracle_mixes_in_the_class():
    method = make(prototype_views=2, oracle=0.25).eval()
    views = images(method)
    z = projections(method, views)
    own = F.normalize(z[1:].mean(0), dim=1)
    of_class = torch.stack([own[label == LABEL].mean(0) for label in LABEL])
    expected = balanced(z[0], 0.75 * own + 0.25 * of_class, 0.5)
    assert torch.allclose(method.loss(views, LABEL)["loss"], expected, atol=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "distance"])
@pytest.mark.parametrize("include_positive", [True, False])
@pytest.mark.parametrize("batch", [6, 400])  # whole, and in tiles
def test_a_similarity_is_its_definition(similarity, include_positive, batch):
    """Value and gradient in float64, one pair at a time, for the first rows."""
    torch.manual_seed(1)
    z1, z2 = (torch.randn(batch, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    measure = {
        "cosine": lambda a, b: F.cosine_similarity(a, b, dim=-1),
        "dot": lambda a, b: (a * b).sum(-1),
        "distance": lambda a, b: -(a - b).square().sum(-1) / 2,
    }[similarity]
    tau, nu, lam = 2.0, 0.7, 1.3
    both, losses = torch.cat([z1, z2]), []
    for i in range(2 * batch):
        other = (i + batch) % (2 * batch)
        s = measure(both[i], both) / tau
        kept = [k for k in range(2 * batch) if k != i and (include_positive or k != other)]
        losses.append(lam * s[kept].logsumexp(0) - nu * s[other])
    expected = torch.stack(losses).mean()
    found = balanced(z1, z2, tau, nu, lam, include_positive, similarity=similarity)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    for ours, theirs in zip(*(torch.autograd.grad(one, (z1, z2)) for one in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def test_of_unit_length_all_similarities_are_one():
    """With equal weights: the distance is then the cosine minus 1, in both attraction and repulsion."""
    z1, z2 = (F.normalize(z, dim=1) for z in torch.randn(2, 6, 5, dtype=torch.float64))
    cosine, dot, distance = (
        balanced(z1, z2, 0.3, similarity=similarity).item() for similarity in ("cosine", "dot", "distance")
    )
    assert dot == pytest.approx(cosine) and distance == pytest.approx(cosine)


def test_an_unknown_similarity_is_an_error_and_never_another_one():
    with pytest.raises(ValueError, match="similarity must be one of cosine, dot, distance, got 'dott'"):
        balanced(*torch.randn(2, 6, 5), 0.5, similarity="dott")


def test_prototypes_are_directions():
    for wrong in ({"prototype_views": 2}, {"oracle": 0.5}):
        with pytest.raises(
            ValueError, match="similarity must be cosine where prototype_views is above 1 or oracle above 0, got dot"
        ):
            BalancedOptions(similarity="dot", **wrong)


def test_the_weights_reach_the_loss():
    method = make(nu=0.7, lam=1.3, include_positive=False).eval()
    views = images(method)
    z = projections(method, views)
    expected = balanced(z[0], z[1], 0.5, 0.7, 1.3, False)
    assert torch.allclose(method.loss(views, LABEL)["loss"], expected, atol=1e-5)


def test_the_bias_is_that_of_mean_views_from_class_means():
    method = make(prototype_views=2).eval()
    views = images(method)
    mean_view = projections(method, views).mean(0).double()
    distances, cosines = [], []
    for i, label in enumerate(LABEL):
        of_class = mean_view[label == LABEL].mean(0)
        distances.append(float((mean_view[i] - of_class).square().sum()))
        cosines.append(1 - float(F.cosine_similarity(mean_view[i], of_class, dim=0)))
    out = method.loss(views, LABEL)
    assert float(out["prototype_bias"]) == pytest.approx(sum(distances) / 6, rel=1e-4)
    assert float(out["prototype_bias_cosine"]) == pytest.approx(sum(cosines) / 6, rel=1e-3)
    assert not out["prototype_bias"].requires_grad
    alone = method.loss(views, torch.arange(6) % 4)
    assert float(method.loss(views, LABEL * 0)["prototype_bias"]) > float(alone["prototype_bias"])


def test_a_known_prior_counts_the_labels_and_weighs_the_negatives():
    method = make(known_prior=True).eval()
    views = images(method)
    method.loss(views, torch.tensor([0, 0, 0, 0, 3, 3]))
    out = method.loss(views, LABEL)["loss"]
    counts = torch.tensor([7.0, 2.0, 1.0, 2.0])
    assert torch.equal(method.seen, counts)
    log_prior = torch.log(4 * counts / 12)[LABEL]
    z = projections(method, views)
    assert torch.allclose(out, balanced(z[0], z[1], 0.5, log_prior=log_prior), atol=1e-5)
    assert float(log_prior[0]) == pytest.approx(math.log(4 * 7 / 12))
