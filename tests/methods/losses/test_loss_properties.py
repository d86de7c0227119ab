"""Properties of every loss: its definition, gradient and symmetries, and finite values in edge cases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.definitions import CASES
from twoview.methods.losses.balanced import balanced
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.kernel import concat, kernel_infonce, kernel_sum, mixed_kernel
from twoview.methods.losses.moco import moco
from twoview.methods.losses.supcon import supcon

every_loss = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# Losses with a temperature, at any temperature.
SHARP = {
    "nt_xent": lambda a, b, t: nt_xent(a, b, t),
    "laplacian": lambda a, b, t: kernel_infonce(a, b, 1, t),
    "gamma 0.25": lambda a, b, t: kernel_infonce(a, b, 0.25, t),
    "kernel_sum": lambda a, b, t: kernel_sum(a, b, (0.5, 2), (t, t), 0.3),
    "mixed_kernel": lambda a, b, t: mixed_kernel(a, b, (0.5, 2), (t, t), 0.3),
    "concat, joint": lambda a, b, t: concat(a, b, (0.5, 2), (t, t), 0.3, True),
    "concat, apart": lambda a, b, t: concat(a, b, (0.5, 2), (t, t), 0.3, False),
    "balanced": lambda a, b, t: balanced(a, b, t, 0.5, 2, False),
    "moco": lambda a, b, t: moco(a, b, torch.cat([a, b]).detach(), t, 0.25),
    "supcon": lambda a, b, t: supcon(a, b, torch.arange(len(a)) % 2, t),
}


def embeddings(batch, width, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = torch.randn(2, batch, width, generator=generator, dtype=torch.float64).to(dtype)
    return z1, z2, torch.arange(batch) % 3


@every_loss
@settings(max_examples=15)
@given(batch=st.integers(2, 8), half=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_the_definition(case, batch, half, seed):
    z1, z2, label = embeddings(batch, 2 * half, seed)
    expected = case.definition(z1, z2, label)
    assert float(case.ours(z1, z2, label)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@every_loss
def test_float32_is_close(case):
    """Not at every distance: float32 cannot tell one below 0.0014 from 0, and gamma < 1 magnifies small distances."""
    z1, z2, label = embeddings(12, 16, dtype=torch.float32)
    assert float(case.ours(z1, z2, label)) == pytest.approx(case.definition(z1, z2, label), rel=1e-5)


@every_loss
def test_gradcheck(case):
    z1, z2, label = embeddings(4, 6)
    z1.requires_grad_(), z2.requires_grad_(not case.stopped)
    assert torch.autograd.gradcheck(lambda a, b: case.ours(a, b, label), (z1, z2))


@every_loss
def test_symmetric_equivariant_and_scale_free(case):
    z1, z2, label = embeddings(10, 6)
    loss, order = case.ours(z1, z2, label), torch.randperm(10)
    assert torch.allclose(loss, case.ours(z1[order], z2[order], label[order]))
    if case.symmetric:
        assert torch.allclose(loss, case.ours(z2, z1, label))
    if case.scale_free:
        assert torch.allclose(loss, case.ours(3 * z1, 0.1 * z2, label))


@every_loss
def test_bf16_under_autocast_is_the_float32_loss_of_the_same_numbers(case):
    z1, z2, label = embeddings(32, 16, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = case.ours(z1, z2, label)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, case.ours(z1.float(), z2.float(), label))
    assert float(loss) == pytest.approx(case.definition(z1, z2, label), rel=1e-4)


@pytest.mark.parametrize("loss", SHARP.values(), ids=SHARP)
@pytest.mark.parametrize("temperature", [0.005, 0.05, 1.0])
@pytest.mark.parametrize("alike", ["identical views", "opposite views", "all identical"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_finite_at_the_edges(loss, temperature, alike, dtype):
    z1, z2, _ = embeddings(16, 8, dtype=dtype)
    z2 = {"identical views": z1, "opposite views": -z1, "all identical": z2[:1].expand(16, 8)}[alike].clone()
    z1 = z2.clone() if alike == "all identical" else z1
    z1.requires_grad_(), z2.requires_grad_()
    value = loss(z1, z2, temperature)
    value.backward()
    assert math.isfinite(value.item()) and z1.grad.isfinite().all() and z2.grad.isfinite().all()
