"""torch's compilers on a training step, on a CPU: the graphs equal a GPU's, except for the last compiler's code."""

import pytest
import torch
from torch import nn

from tests.support.absent_gpu import scalar_inductor
from tests.support.small_methods import METHODS, batches, make
from twoview.methods import backbones
from twoview.methods.backbones import Average
from twoview.methods.encoder import Encoder
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.probes.online import Online
from twoview.methods.trainer import Trainer


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """A single convolution, because the compiler's work on every layer takes the time."""

    def build(backbone):
        layers = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        return Encoder(nn.Sequential(*layers, Average()), 8)

    monkeypatch.setattr(backbones, "build", build)


def steps(method, backend=None, count=2, images=6):
    """Return losses and gradients of steps in bf16, which hardly change the weights."""
    torch._dynamo.reset()  # a code object is compiled eight times at most
    one = Trainer(
        method.train(),
        Optim(name="sgd", lr=1e-6),
        epochs=2,
        normalize=Normalize((0.5,) * 3, (0.25,) * 3),
        device=torch.device("cpu"),
        precision="bf16",
    )
    if backend:
        one.objective.compile(backend=backend, fullgraph=True, dynamic=False)
    gradients, losses = [], []

    def keep(*_):
        named = one.method.named_parameters()
        gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})

    one.optimizer.register_step_pre_hook(keep)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for number, batch in enumerate(batches(method, count, images)):
            torch.manual_seed(number)
            losses.append({name: value.item() for name, value in one.step(batch, 0.5).items()})
    return losses, gradients


def off(gradient, other):
    return ((gradient - other).norm() / other.norm()).item()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name == "pmsn" else ()) for name in (*METHODS, "online")]
)
def test_a_step_is_one_graph_forwards_and_backwards_for_batch_after_batch(name, one_thread):
    """Losses are equal bit for bit, except where the second step depends on the first.

    If both views go through the same weights, the graph sums their gradients in float32, and autocast does in bf16. In
    the batches after the first, MoCo's queue, the moving averages and the online head's weights have changed.
    """

    def method():
        return Online(make("simclr"), 10) if name == "online" else make(name)

    (plain, gradients), (traced, others) = steps(method()), steps(method(), "aot_eager")
    assert traced[0] == plain[0] and traced[1] == pytest.approx(plain[1], rel=1e-4, abs=1e-6)
    for ours, theirs in zip(others, gradients, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(off(ours[key], theirs[key]) < 0.01 for key in ours)


@pytest.mark.long
def test_simclr_compiled_in_bf16_has_its_loss_and_its_gradients(one_thread):
    """Normalization, autocast, network, head and loss, forward and backward.

    Compiled code does not round intermediate values between two sums to bf16, so the gradients differ, about as much as
    bf16 differs from float32.
    """
    [plain], [gradients] = steps(make("simclr"), count=1, images=32)
    with scalar_inductor():
        [compiled], [others] = steps(make("simclr"), "inductor", count=1, images=32)
    assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-3)
    ours, theirs = (torch.cat([g.flatten() for g in found.values()]) for found in (others, gradients))
    assert others.keys() == gradients.keys() and off(ours, theirs) < 0.05
