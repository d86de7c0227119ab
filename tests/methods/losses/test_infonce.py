"""NT-Xent against closed forms, a float64 definition, and lightly."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twoview.methods.losses.infonce import nt_xent


def definition(z1, z2, temperature):
    """Chen et al. 2020, equation 1, as two plain loops in float64."""
    z = torch.cat([z1, z2]).double()
    z = z / z.norm(dim=1, keepdim=True)
    n, total = len(z), 0.0
    for i in range(n):
        others = [float(z[i] @ z[k]) / temperature for k in range(n) if k != i]
        top = max(others)
        positive = float(z[i] @ z[(i + n // 2) % n]) / temperature
        total += top + math.log(sum(math.exp(s - top) for s in others)) - positive
    return total / n


@settings(max_examples=50)
@given(batch=st.integers(2, 9), width=st.integers(1, 17), temperature=st.floats(0.005, 2), seed=st.integers(0, 2**31))
def test_the_definition(batch, width, temperature, seed):
    torch.manual_seed(seed)
    z1, z2 = torch.randn(2, batch, width)
    expected = definition(z1, z2, temperature)
    assert float(nt_xent(z1.double(), z2.double(), temperature)) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert float(nt_xent(z1, z2, temperature)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.005, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("batch", [2, 64])
def test_identical_embeddings_give_log_of_the_candidates(batch, temperature):
    z = torch.ones(batch, 8)
    assert float(nt_xent(z, z, temperature)) == pytest.approx(math.log(2 * batch - 1), abs=1e-6 + 2e-7 / temperature)


def test_orthogonal_images_with_equal_views():
    """s_pos = 1 and all 2B - 2 others 0: -1/tau + log(e^(1/tau) + 2B - 2)."""
    z, tau = torch.eye(16), 0.5
    assert float(nt_xent(z, z, tau)) == pytest.approx(-1 / tau + math.log(math.exp(1 / tau) + 30), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_lightlys_value_and_gradient(temperature):
    lightly = pytest.importorskip("lightly.loss").NTXentLoss(temperature=temperature)
    torch.manual_seed(0)
    pairs = [torch.randn(2, 64, 32, requires_grad=True) for _ in range(2)]
    with torch.no_grad():
        pairs[1].copy_(pairs[0])
    ours, theirs = nt_xent(*pairs[0], temperature), lightly(*pairs[1])
    ours.backward()
    theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert torch.allclose(pairs[0].grad, pairs[1].grad, atol=1e-7)


def test_gradcheck():
    torch.manual_seed(0)
    z1, z2 = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.3), (z1, z2))


def test_symmetric_and_equivariant():
    torch.manual_seed(0)
    z1, z2 = torch.randn(2, 10, 6, dtype=torch.float64)
    order = torch.randperm(10)
    loss = nt_xent(z1, z2, 0.2)
    assert torch.allclose(loss, nt_xent(z2, z1, 0.2)) and torch.allclose(loss, nt_xent(z1[order], z2[order], 0.2))
    assert torch.allclose(loss, nt_xent(3 * z1, 0.1 * z2, 0.2)), "the scale of an embedding does not count"


@pytest.mark.parametrize("sign", [1, -1])
def test_bf16_inputs_under_autocast_have_a_float32_loss(sign):
    """Identical and opposite views, at a temperature at which exp would overflow in both bf16 and float32."""
    torch.manual_seed(0)
    z = torch.randn(32, 16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(z.bfloat16(), sign * z.bfloat16(), 0.005)
    assert loss.dtype == torch.float32 and math.isfinite(float(loss))
    assert float(loss) == pytest.approx(definition(z.bfloat16(), sign * z.bfloat16(), 0.005), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_a_temperature_not_above_0_is_named(temperature):
    with pytest.raises(ValueError, match=f"temperature must be above 0, got {temperature}"):
        nt_xent(torch.ones(2, 2), torch.ones(2, 2), temperature)


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        (((1, 4), (1, 4)), "z1 holds 1 embedding: a batch needs at least 2"),
        (
            ((3, 4), (2, 4)),
            r"embeddings must all have the same shape \(B, d\), got z1 \(3, 4\) and z2 \(2, 4\)",
        ),
        (
            ((4,), (4,)),
            r"embeddings must all have the same shape \(B, d\), got z1 \(4,\) and z2 \(4,\)",
        ),
    ],
)
def test_wrong_shapes_are_named(shapes, complaint):
    with pytest.raises(ValueError, match=complaint):
        nt_xent(torch.ones(shapes[0]), torch.ones(shapes[1]), 0.5)


def test_zero_embeddings_are_finite():
    z = torch.zeros(3, 4, requires_grad=True)
    loss = nt_xent(z, z, 0.5)
    loss.backward()
    assert math.isfinite(loss.item()) and z.grad.isfinite().all()
