"""MSN and PMSN against the official formula and lightly's losses, including lightly's deviations from the papers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.definitions import msn_terms, target_definition
from twoview.methods.losses.msn import assign, mean_over_batch, msn, sinkhorn, targets
from twoview.methods.losses.priors import histogram, power_law, uniform

V, B, D, K = 3, 8, 12, 5


@pytest.fixture
def drawn():
    """Return anchors, target embeddings and prototypes."""
    torch.manual_seed(0)
    return (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((V, B, D), (B, D), (K, D)))


def test_every_term_is_its_definition(drawn):
    anchors, z, q = drawn
    prior = power_law(K, 0.5)
    target = targets(z, q, prior, 0.2, 0.3, 2)
    assert torch.allclose(target, target_definition(z, q, prior, 0.2, 0.3, 2), rtol=1e-9)
    assert not target.requires_grad
    expected = msn_terms(anchors, target, q, prior, 0.2)
    anchors = anchors.detach()
    for direction in ("to-prior", "from-prior"):
        terms = msn(anchors, target, q.detach(), prior, 0.2, 3.0, 0.5, direction)
        assert float(terms["divergence"]) == pytest.approx(expected[direction], rel=1e-9)
        for name in ("cross_entropy", "entropy", "mean_entropy"):
            assert float(terms[name]) == pytest.approx(expected[name], rel=1e-9)
        loss = expected["cross_entropy"] + 3 * expected[direction] + 0.5 * expected["entropy"]
        assert float(terms["loss"]) == pytest.approx(loss, rel=1e-9)


def test_gradcheck_of_anchors_and_prototypes(drawn):
    anchors, z, q = (part.detach()[..., :3].requires_grad_() for part in drawn)
    target = targets(z, q, uniform(K), iterations=3)
    for direction in ("to-prior", "from-prior"):
        assert torch.autograd.gradcheck(
            lambda a, p, d=direction: msn(a, target, p, power_law(K), 0.3, 1.0, 0.5, d)["loss"], (anchors, q)
        )


def test_the_uniform_prior_is_me_max(drawn):
    """The official rloss is the negative entropy of the mean prediction plus log K. `msn` has one code for both."""
    anchors, z, q = drawn
    target = targets(z, q, uniform(K), iterations=3)
    terms = msn(anchors, target, q, uniform(K))
    mean = torch.softmax(torch.nn.functional.normalize(anchors.flatten(0, 1)) @ unit_rows(q).T / 0.1, 1).mean(0)
    rloss = -torch.sum(torch.log(mean ** (-mean))) + math.log(K)
    assert float(terms["divergence"]) == pytest.approx(float(rloss), rel=1e-12)
    assert torch.equal(power_law(K, 0.0), uniform(K))
    assert torch.equal(terms["loss"], msn(anchors, target, q, power_law(K, 0.0))["loss"])


def unit_rows(z):
    return torch.nn.functional.normalize(z, dim=1)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_lightlys_msn_loss(drawn, iterations):
    lightly = pytest.importorskip("lightly.loss")
    anchors, z, q = drawn
    theirs = lightly.MSNLoss(sinkhorn_iterations=iterations)(anchors.flatten(0, 1), z, q)
    ours = msn(anchors, targets(z, q, uniform(K), iterations=iterations), q, uniform(K))["loss"]
    assert torch.allclose(ours, theirs, rtol=1e-12)
    for one, other in zip(
        torch.autograd.grad(ours, (anchors, q)), torch.autograd.grad(theirs, (anchors, q)), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:To copy construct")
def test_lightlys_pmsn_loss_has_another_divergence_and_uniform_targets(drawn):
    """The docstring says KL(mean_anchor_probs, target_dist), but the code computes KL(target_dist, mean_anchor_probs).

    It balances the targets to the uniform distribution whatever the prior, so with the uniform prior it is not MSN.
    """
    lightly = pytest.importorskip("lightly.loss")
    anchors, z, q = drawn

    def ours(prior, marginal, iterations, direction):
        return msn(anchors, targets(z, q, marginal, iterations=iterations), q, prior, divergence=direction)["loss"]

    prior, flat = power_law(K), uniform(K)
    theirs = lightly.PMSNLoss()(anchors.flatten(0, 1), z, q)  # its prior is float32
    assert torch.allclose(ours(prior, flat, 3, "from-prior"), theirs, rtol=1e-6)
    for others in ((prior, flat, 3, "to-prior"), (prior, prior, 3, "from-prior"), (prior, flat, 0, "from-prior")):
        assert abs(ours(*others) - theirs) > 1e-4 * abs(theirs)
    uniform_pmsn = lightly.PMSNCustomLoss(lambda mean: torch.full_like(mean, 1 / K))(anchors.flatten(0, 1), z, q)
    assert abs(uniform_pmsn - lightly.MSNLoss()(anchors.flatten(0, 1), z, q)) > 1e-4
    assert torch.allclose(uniform_pmsn, ours(flat, flat, 3, "from-prior"))


def test_prototypes_get_a_gradient_which_lightlys_examples_cut(drawn):
    """lightly's loss expects `prototypes.data`, which has no gradient."""
    anchors, z, q = drawn
    target = targets(z, q, uniform(K))
    assert torch.autograd.grad(msn(anchors, target, q, uniform(K))["loss"], q)[0].abs().sum() > 0
    assert not msn(anchors.detach(), target, q.data, uniform(K))["loss"].requires_grad


def test_sinkhorn_comes_to_its_marginal_and_keeps_rows():
    torch.manual_seed(0)
    log_p = torch.log_softmax(3 * torch.randn(64, K, dtype=torch.float64), 1)
    for marginal in (uniform(K), power_law(K, 1.0)):
        balanced = sinkhorn(log_p, marginal, 200).exp()
        assert torch.allclose(balanced.sum(1), torch.ones(64, dtype=torch.float64))
        assert torch.allclose(balanced.mean(0), marginal, rtol=1e-6)
    assert torch.equal(sinkhorn(log_p, uniform(K), 0), log_p)


def test_nothing_underflows_where_the_official_code_divides_by_zero():
    """All targets are at one prototype, so sharply that the others get e^-200, which float32 cannot represent."""
    z, q = torch.eye(4)[:1].repeat(6, 1), torch.eye(4)
    target = targets(z, q, uniform(4), temperature=0.02, sharpening=0.25, iterations=3)
    assert torch.allclose(target, torch.full((6, 4), 0.25), atol=1e-4)
    anchors = z[None].clone().requires_grad_()
    terms = msn(anchors, target, q, uniform(4), temperature=0.005)
    terms["loss"].backward()
    assert all(term.isfinite() for term in terms.values()) and anchors.grad.isfinite().all()


def test_collapse_shows_in_the_mean_entropy():
    q = torch.eye(K)
    collapsed, spread = q[:1].repeat(1, K, 1), q[None].clone()
    target = targets(q, q, uniform(K))
    assert float(msn(collapsed, target, q, uniform(K))["mean_entropy"]) < 0.01
    assert float(msn(spread, target, q, uniform(K))["mean_entropy"]) == pytest.approx(math.log(K), rel=1e-5)


@settings(max_examples=25)
@given(classes=st.integers(1, 12), prototypes=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_a_histogram_spread_over_prototypes(classes, prototypes, seed):
    """Count the cells common to both one by one."""
    counts = torch.randint(0, 50, (classes,), generator=torch.Generator().manual_seed(seed))
    shares = sorted(((int(c) + 1) / (int(counts.sum()) + classes) for c in counts), reverse=True)
    cells = [share / prototypes for share in shares for _ in range(prototypes)]
    expected = [sum(cells[k * classes : (k + 1) * classes]) for k in range(prototypes)]
    assert histogram(counts, prototypes).tolist() == pytest.approx(expected, rel=1e-9)


def test_priors():
    for prior in (uniform(1000), power_law(1000, 0.25), power_law(1000, 2.0), histogram(torch.arange(8142), 1024)):
        assert prior.dtype == torch.float64 and float(prior.sum()) == pytest.approx(1, abs=1e-12) and (prior > 0).all()
    law = power_law(16)
    assert float(law[0] / law[15]) == pytest.approx(2.0)  # 16^0.25
    assert histogram(torch.tensor([2, 0, 0]), 6).tolist() == pytest.approx([0.3, 0.3, 0.1, 0.1, 0.1, 0.1])


def test_the_mean_assignment_is_the_mean():
    torch.manual_seed(0)
    log_p = assign(torch.randn(B, D), torch.randn(K, D), 0.1)
    assert torch.allclose(mean_over_batch(log_p).exp(), log_p.exp().mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prior": uniform(4)}, r"prior must have shape \(5,\), a share for each prototype, got \(4,\)"),
        ({"prior": torch.tensor([0.5, 0.7, -0.2, 0.0, 0.0])}, r"prior must be above 0, got prior\[2\] = -0.2"),
        ({"prior": torch.full((5,), float("nan"))}, r"prior must be above 0, got prior\[0\] = nan"),
        ({"prior": torch.full((5,), 0.3)}, r"prior must sum to 1, got 1.5"),
        ({"temperature": 0.0}, r"temperature must be above 0, got 0.0"),
        ({"weight": -1.0}, r"weight must be 0 or above, got -1.0"),
        ({"entropy_weight": -1.0}, r"entropy_weight must be 0 or above, got -1.0"),
        ({"anchors": torch.zeros(B, D)}, r"anchors must have shape \(V, B, d\) with V >= 1 and B >= 2, got \(8, 12\)"),
        (
            {"anchors": torch.zeros(V, 1, D)},
            r"anchors must have shape \(V, B, d\) with V >= 1 and B >= 2, got \(3, 1, 12\)",
        ),
        ({"target": torch.zeros(B, K - 1)}, r"target must have shape \(8, 5\), images by prototypes, got \(8, 4\)"),
        ({"prototypes": torch.zeros(K, D - 1)}, r"prototypes must have shape \(K, 12\) with K >= 1, .*, got \(5, 11\)"),
        ({"prototypes": torch.full((K, D), math.inf)}, r"prototypes must be finite, got prototypes\[0, 0\] = inf"),
    ],
)
def test_bad_input(changes, complaint):
    right = {
        "anchors": torch.ones(V, B, D),
        "target": torch.full((B, K), 1 / K),
        "prototypes": torch.ones(K, D),
        "prior": uniform(K),
    }
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        msn(**right | changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"marginal": torch.full((K,), 0.3)}, r"marginal must sum to 1, got 1.5"),
        ({"sharpening": 0.0}, r"sharpening must be above 0, got 0.0"),
        ({"z": torch.ones(1, D)}, r"z holds 1 embedding: a batch needs at least 2"),
    ],
)
def test_bad_input_to_targets(changes, complaint):
    right = {"z": torch.ones(B, D), "prototypes": torch.ones(K, D), "marginal": uniform(K)}
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        targets(**right | changes)
