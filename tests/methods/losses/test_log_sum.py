"""The tiled path equals the dense path in value and gradients, and uses a fraction of the memory."""

import json
import subprocess
import sys
from functools import partial

import psutil
import pytest
import torch

from twoview.methods.losses import log_sum
from twoview.methods.losses.balanced import balanced
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.kernel import concat, kernel_infonce, mixed_kernel
from twoview.methods.losses.moco import moco
from twoview.methods.losses.supcon import supcon

LOSSES = {
    "nt_xent": partial(nt_xent, temperature=0.1),
    "laplacian": partial(kernel_infonce, gamma=1, temperature=0.3),
    "gamma 0.25": partial(kernel_infonce, gamma=0.25, temperature=0.3),
    "mixed_kernel": partial(mixed_kernel, gammas=(1, 2), temperatures=(0.3, 0.7), weight=0.2),
    "concat": partial(concat, gammas=(1, 2), temperatures=(0.3, 0.7), weight=0.2, joint=True),
    "balanced": partial(
        balanced, temperature=0.1, nu=0.5, lam=2, include_positive=False, log_prior=torch.linspace(-1, 1, 100)
    ),
    "balanced, positive": partial(balanced, temperature=0.1, nu=0.5, lam=2),
    "moco": lambda z1, z2: moco(z1, z2, torch.cat([z2, z1]).detach(), 0.2, 1.0),
    "moco, its own queue": lambda z1, z2: moco(z1, z2, torch.cat([z2, z1]), 0.2, 0.5, False),
    "supcon": lambda z1, z2: supcon(z1, z2, torch.arange(100) % 7, 0.1),
}


def value_and_gradients(loss, z1, z2, monkeypatch, dense_pairs, tile_pairs=log_sum.TILE_PAIRS):
    monkeypatch.setattr(log_sum, "DENSE_PAIRS", dense_pairs)
    monkeypatch.setattr(log_sum, "TILE_PAIRS", tile_pairs)
    value = loss(z1, z2)
    return value, *torch.autograd.grad(value, (z1, z2))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 1e-3)], ids=str)
@pytest.mark.parametrize("tile_pairs", [1, 7 * 200, 2**20], ids=["a row", "7 rows", "everything"])
def test_tiled_is_dense(loss, dtype, tolerance, tile_pairs, monkeypatch):
    """Errors are relative to the largest entry. Gradients of bf16 embeddings are compared before rounding to bf16."""
    torch.manual_seed(0)
    z1, z2 = torch.randn(2, 100, 24, dtype=torch.float64).to(dtype).unbind()
    z1, z2 = (z.to(torch.promote_types(dtype, torch.float32)).requires_grad_() for z in (z1, z2))
    dense = value_and_gradients(loss, z1, z2, monkeypatch, 2**60)
    tiled = value_and_gradients(loss, z1, z2, monkeypatch, 0, tile_pairs)
    for one, two in zip(dense, tiled, strict=True):
        assert (one - two).abs().max() <= tolerance * one.abs().max()


def test_a_tiled_loss_of_bf16_embeddings_has_bf16_gradients(monkeypatch):
    torch.manual_seed(0)
    z1, z2 = (z.requires_grad_() for z in torch.randn(2, 100, 24).bfloat16().unbind())
    with torch.autocast("cpu", torch.bfloat16):
        value, *gradients = value_and_gradients(LOSSES["nt_xent"], z1, z2, monkeypatch, 0, 999)
    assert value.dtype == torch.float32 and {g.dtype for g in gradients} == {torch.bfloat16}


def test_gradcheck_of_the_tiles(monkeypatch):
    monkeypatch.setattr(log_sum, "DENSE_PAIRS", 0)
    monkeypatch.setattr(log_sum, "TILE_PAIRS", 24)
    torch.manual_seed(0)
    z1, z2 = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: kernel_infonce(a, b, 0.5, 0.3), (z1, z2))


def test_the_size_decides(monkeypatch):
    """Tiles are used above DENSE_PAIRS, and not up to it."""
    z = torch.randn(64, 3, requires_grad=True)
    for pairs, tiled in [(128 * 128, False), (128 * 128 - 1, True)]:
        monkeypatch.setattr(log_sum, "DENSE_PAIRS", pairs)
        graph = nt_xent(z, z, 0.1).grad_fn.next_functions[0][0]
        assert ("Tiled" in graph.name()) == tiled


SCRIPT = """
import json, sys, time, torch
from twoview.bench.measurement.memory import PeakMemory
from twoview.methods.losses import log_sum
from twoview.methods.losses.infonce import nt_xent
for run in sys.argv[1:]:
    path, batch = run.split("-")
    log_sum.DENSE_PAIRS = 2**60 if path == "dense" else 0
    small, z = torch.randn(2, 64, 128).requires_grad_(), torch.randn(2, int(batch), 128).requires_grad_()
    nt_xent(*small, 0.1).backward()
    memory = PeakMemory()
    start_mib, start = memory.host_mib, time.perf_counter()
    nt_xent(*z, 0.1).backward()
    print(json.dumps({"s": time.perf_counter() - start, "mib": memory.host_mib - start_mib}))
"""


def costs(*runs):
    """Return for each run, in one new process: seconds of forward and backward, and additional peak memory in MiB."""
    out = subprocess.run([sys.executable, "-c", SCRIPT, *runs], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def test_memory_is_linear_in_the_batch():
    """Doubling the batch at most about doubles the memory; at 4,096 images it is at most 15 % of the dense path's."""
    half, tiled, dense = costs("tiled-2048", "tiled-4096", "dense-4096")
    assert tiled["mib"] < 2.5 * half["mib"] and tiled["mib"] < 0.15 * dense["mib"]
    assert dense["mib"] > 2 * 4 * 8192**2 / 2**20, "the dense path keeps the matrix and its gradient"


@pytest.mark.long
@pytest.mark.skipif(psutil.virtual_memory().available < 18 * 2**30, reason="the dense path needs 17 GiB")
def test_memory_and_time_of_16384_images():
    """At most 15 % of the dense path's peak memory and 1.5 times its time, each the better of two alternating runs."""
    runs = [[*costs("tiled-16384"), *costs("dense-16384")] for _ in range(2)]
    tiled_s, dense_s = (min(run[side]["s"] for run in runs) for side in (0, 1))
    tiled_mib, dense_mib = (min(run[side]["mib"] for run in runs) for side in (0, 1))
    print(f"tiled {tiled_s:.1f} s, {tiled_mib:.0f} MiB; dense {dense_s:.1f} s, {dense_mib:.0f} MiB")
    assert tiled_mib <= 0.15 * dense_mib and tiled_s <= 1.5 * dense_s
