"""Losses that equal another loss in some setting, and losses that lightly has too."""

import math

import pytest
import torch

from tests.support.definitions import vicreg_terms
from twoview.methods.losses.balanced import balanced, class_means, prototype_bias, prototypes
from twoview.methods.losses.barlow import barlow
from twoview.methods.losses.byol import byol
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.moco import moco
from twoview.methods.losses.spectral import spectral
from twoview.methods.losses.supcon import supcon
from twoview.methods.losses.vicreg import vicreg


def views(batch=24, width=12, dtype=torch.float64):
    torch.manual_seed(0)
    return [z.requires_grad_() for z in torch.randn(2, batch, width, dtype=dtype).unbind()]


def value_and_gradients(loss, *z):
    value = loss(*z)
    return value, *torch.autograd.grad(value, z)


def assert_same(ours, theirs, z1, z2, rtol=1e-6):
    for one, two in zip(value_and_gradients(ours, z1, z2), value_and_gradients(theirs, z1, z2), strict=True):
        assert torch.allclose(one, two, rtol=rtol, atol=1e-9)


def test_balanced_at_1_1_with_the_positive_is_nt_xent():
    assert_same(lambda a, b: balanced(a, b, 0.2), lambda a, b: nt_xent(a, b, 0.2), *views())


def test_balanced_classes_weigh_nothing():
    log_prior = torch.zeros(24)
    assert_same(lambda a, b: balanced(a, b, 0.2, log_prior=log_prior), lambda a, b: nt_xent(a, b, 0.2), *views())


def test_one_view_is_its_own_prototype():
    def debiased(a, b):
        return balanced(a, prototypes(b[None]), 0.2)

    assert_same(debiased, lambda a, b: nt_xent(a, b, 0.2), *views())


@pytest.mark.parametrize("m", [2, 4, 8])
def test_a_prototype_is_the_direction_of_the_mean(m):
    z = torch.randn(m, 5, 7, dtype=torch.float64)
    mean = torch.stack([sum(z[v, i] / z[v, i].norm() for v in range(m)) / m for i in range(5)])
    assert torch.allclose(prototypes(z), mean / mean.norm(dim=1, keepdim=True))


def test_the_bias_of_a_prototype():
    a, b = torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    squared_distance, one_minus_cosine = prototype_bias(a, b)
    assert float(squared_distance) == pytest.approx((2 + 0.25) / 2)
    assert float(one_minus_cosine) == pytest.approx((1 + 0) / 2)
    assert prototype_bias(a, a) == (0, 0)


def test_class_means():
    z, label = torch.randn(9, 4, dtype=torch.float64), torch.tensor([5, -1, 5, 7, 7, 7, -1, 5, 3])
    unit = torch.nn.functional.normalize(z, dim=1)
    expected = torch.stack([unit[label == y].mean(0) for y in label])
    assert torch.allclose(class_means(z, label), expected)


def test_supcon_of_different_labels_is_nt_xent():
    assert_same(lambda a, b: supcon(a, b, torch.arange(24), 0.2), lambda a, b: nt_xent(a, b, 0.2), *views())


def test_supcon_of_one_label_at_identical_embeddings():
    z = torch.ones(8, 3)
    assert float(supcon(z, z, torch.zeros(8, dtype=torch.int64), 0.1)) == pytest.approx(math.log(15), abs=1e-5)


@pytest.mark.parametrize(("batch", "width"), [(24, 6), (5, 40)], ids=["covariances", "Gram matrix"])
def test_vicregs_three_terms(batch, width):
    torch.manual_seed(0)
    z1, z2 = 0.7 * torch.randn(2, batch, width, dtype=torch.float64)
    terms = vicreg(z1, z2)
    expected = dict(zip(("invariance", "variance", "covariance"), vicreg_terms(z1, z2), strict=True))
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=1e-9)
        alone = vicreg(z1, z2, **{**dict.fromkeys(expected, 0.0), name: 3.0})["loss"]
        assert float(alone) == pytest.approx(3 * value, rel=1e-9)
    official = 25 * expected["invariance"] + 25 * expected["variance"] + expected["covariance"]
    assert float(terms["loss"]) == pytest.approx(official, rel=1e-9)


def test_collapse_costs_vicreg_its_variance_term():
    z = torch.ones(8, 4)
    assert float(vicreg(z, z)["variance"]) == pytest.approx(1 - 0.01)


@pytest.mark.parametrize(("batch", "width"), [(24, 6), (5, 40)], ids=["wide", "tall"])
def test_lightlys_losses(batch, width):
    """lightly's BYOL loss L is the negative cosine; ours is 2 + 2 L. Its decoupled loss is ours without positive."""
    lightly = pytest.importorskip("lightly.loss")
    z1, z2 = views(batch, width, torch.float64)
    assert_same(lambda a, b: vicreg(a, b)["loss"], lightly.VICRegLoss(), z1, z2)
    assert_same(lambda a, b: barlow(a, b, 5e-3), lightly.BarlowTwinsLoss(), z1, z2)
    cosine = lightly.NegativeCosineSimilarity()
    assert_same(byol, lambda a, b: 2 + 2 * cosine(a, b), z1, z2)
    assert_same(lambda a, b: balanced(a, b, 0.2, include_positive=False), lightly.DCLLoss(0.2), z1, z2)


def test_lightlys_memory_bank_is_moco_at_twice_the_temperature():
    lightly = pytest.importorskip("lightly.loss")
    z1, z2 = views()
    bank = lightly.NTXentLoss(0.1, memory_bank_size=(32, 12))
    bank.double()
    ours = moco(z1, z2, bank.memory_bank.bank.clone(), 0.2)
    assert torch.allclose(ours, bank(z1, z2))


def test_haochens_spectral_loss():
    """`D` of the authors' models/spectral.py at mu = 1, for unit vectors."""

    def theirs(z1, z2):
        z1, z2 = (torch.nn.functional.normalize(z, dim=1) for z in (z1, z2))
        square = torch.matmul(z1, z2.T) ** 2
        off = torch.mean(torch.triu(square, diagonal=1) + torch.tril(square, diagonal=-1))
        return -2 * torch.mean(z1 * z2) * z1.shape[1] + off * z1.shape[0] / (z1.shape[0] - 1)

    for shape in [(24, 4), (6, 12)]:
        assert_same(spectral, theirs, *views(*shape))
