"""A batch in parts has the loss and gradients of the whole batch, and BatchNorm's running statistics of the parts."""

import copy

import pytest
import torch
from torch import nn

from tests.support.small_methods import METHODS, batch, batches, make
from tests.support.stripes import CPU, RECIPE, Stripes, make_trainer
from twoview.loaders.views import View
from twoview.methods import accumulate, checkpoint, registry
from twoview.methods.accumulate import divide
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.probes.online import Online
from twoview.methods.simclr import SimCLROptions
from twoview.methods.trainer import Trainer
from twoview.methods.vit import ViT


class Exact(Normalize):
    """Normalization in float64."""

    def forward(self, x):
        return super().forward(x).double()


def method_named(name):
    if name == "multi-crop":
        views = (View(16), View(16), View(8), View(8))
        return registry.entry("simclr").build(SimCLROptions(hidden=8), ViT(16, 2, 2, patch=4, size=16), views, 10)
    return make(name)


def trainer(name, parts, normalize=Normalize, precision="fp32"):
    torch.manual_seed(0)
    method = method_named(name.removeprefix("online-"))
    if normalize is Exact:
        method.double()
    one = Trainer(
        Online(method, 10) if name.startswith("online-") else method,
        Optim(lr=0.01),
        epochs=2,
        normalize=normalize((0.5,) * 3, (0.25,) * 3),
        device=CPU,
        precision=precision,
        accumulate=parts,
    )
    one.method.train()
    return one


def trained(*settings, **more):
    """Return the losses of three steps and the state after them, without BatchNorm's statistics in the encoder."""
    one = trainer(*settings, **more)
    for module in one.method.modules():
        if isinstance(module, nn.BatchNorm2d):  # in encoders only; heads have BatchNorm1d
            module.eval()
    losses = [value for batch in batches(one.method, 3, images=8) for value in one.step(batch, 0.5).values()]
    return torch.stack(losses), one.method.state_dict()


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("name", [*METHODS, "online-simclr", "online-mae", "online-data2vec", "multi-crop"])
def test_losses_and_weights_are_those_of_the_whole_batch(name, parts):
    """In float32 the losses, and in float64, where no rounding is amplified, also the weights."""
    whole, divided = trained(name, 1)[0], trained(name, parts)[0]
    assert torch.allclose(divided, whole, rtol=1e-5, atol=1e-5)
    (whole, weights), (divided, others) = trained(name, 1, Exact), trained(name, parts, Exact)
    assert torch.allclose(divided, whole, rtol=1e-6, atol=1e-6), "the losses themselves are in float32"
    assert others.keys() == weights.keys()
    assert all(torch.allclose(others[key], weights[key], rtol=0, atol=1e-6) for key in weights)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_part_runs_again_in_the_precision_of_its_first_run(precision):
    whole, divided = (trained("mae", parts, precision=precision)[0] for parts in (1, 4))
    assert torch.allclose(divided, whole, rtol=1e-3)


def test_running_statistics_are_those_of_one_part_after_the_other():
    method = make("byol").train()
    encoders = [copy.deepcopy(encoder) for encoder in (method.encoder, method.target[0])]
    views, label, masks = batch(method, images=12)
    divide(method, 3, "off")
    method.loss(views, label, masks)["loss"].backward()
    for ours, plain in zip((method.encoder, method.target[0]), encoders, strict=True):
        for view in views:
            for part in range(3):
                plain(view[part::3])
        assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), plain.buffers(), strict=True))
        counts = [buffer.item() for name, buffer in ours.named_buffers() if name.endswith("num_batches_tracked")]
        assert set(counts) == {6}


def test_drop_path_draws_the_same_when_a_part_runs_again():
    torch.manual_seed(0)
    plain = ViT(16, 4, 2, patch=4, size=8, drop_path=0.9).train()
    divided, images = copy.deepcopy(plain), torch.randn(8, 3, 8, 8)
    divide(divided, 2, "off")
    torch.manual_seed(1)
    parts = [plain(images[part::2]) for part in range(2)]
    torch.stack(parts, dim=1).flatten(0, 1).square().sum().backward()
    state = torch.get_rng_state()
    torch.manual_seed(1)
    divided(images).square().sum().backward()
    assert torch.equal(torch.get_rng_state(), state)
    for ours, theirs in zip(divided.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_a_part_has_all_views_of_its_images():
    method, seen = make("simclr").train(), []
    divide(method, 3, "off")
    method.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, 0, 0, 0].tolist()))
    numbers = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 16, 16)
    method.loss((numbers, 10 + numbers), torch.zeros(6))
    assert seen == [[0, 3, 10, 13], [1, 4, 11, 14], [2, 5, 12, 15]]


def test_a_single_part_keeps_its_memory_layout():
    """The order of a later sum depends on it, and runs without accumulation must not change by a bit."""
    features = torch.randn(4, 3, 5)[:, 0]
    assert accumulate.joined([features]) is features


def test_batches_of_any_size_are_whole_in_evaluation():
    encoder, sizes = make("simclr").encoder, []
    divide(encoder, 4, "off")
    encoder.register_forward_hook(lambda module, inputs, out: sizes.append(len(out)))
    encoder.eval()(torch.randn(7, 3, 16, 16))
    assert sizes == [7]


def test_a_run_stopped_within_an_epoch_is_resumed_to_the_bit(tmp_path, one_thread):
    whole, stopped, resumed = (make_trainer(views=2, accumulate=4) for _ in range(3))
    whole.fit(Stripes(2), None, RECIPE)
    path = tmp_path / "a.pt"
    assert not stopped.fit(Stripes(2), path, RECIPE, stop=lambda: len(stopped._open) == 3)
    resumed.resume(checkpoint.load(path))
    assert len(resumed.history.losses) == 3
    resumed.fit(Stripes(2), path, RECIPE)
    assert resumed.history.losses == whole.history.losses
    for a, b in zip(whole.method.state_dict().values(), resumed.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_cuda_graphs_are_refused():
    shared = {"epochs": 1, "normalize": Normalize((0.5,) * 3, (0.25,) * 3), "precision": "fp32", "accumulate": 2}
    with pytest.raises(ValueError, match=r"^accumulate must be 1 with cuda_graph, .* got 2$"):
        Trainer(make("simclr"), Optim(), device=torch.device("cuda"), cuda_graph=True, **shared)
    with pytest.raises(ValueError, match=r"^accumulate must be 1 with compile max-autotune, .* got 2$"):
        Trainer(make("simclr"), Optim(), device=CPU, compile="max-autotune", **shared)


@pytest.mark.long
@pytest.mark.parametrize("name", ["simclr", "byol", "mae", "data2vec", "msn", "online-simclr", "online-mae"])
def test_a_part_is_compiled_once_and_computes_the_same(name, monkeypatch, one_thread):
    """However many parts there are. The compiler's front end only traces here and leaves the arithmetic as it is."""
    compiled = {}

    def traced(function, mode):
        return compiled.setdefault(function, torch.compile(function, backend="aot_eager", dynamic=False))

    def steps(parts, compile):
        """Return the losses of two steps, and the number of compiled graphs."""
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compiled.clear()
        one = trainer(name, parts)
        if compile:
            divide(one.method, parts, "default")
            one.objective.compile(backend="aot_eager", dynamic=False)
        losses = [value for batch in batches(one.method, 2, images=16) for value in one.step(batch, 0.5).values()]
        return torch.stack(losses), torch._dynamo.utils.counters["stats"]["unique_graphs"]

    monkeypatch.setattr(accumulate, "_compiled", traced)
    (few, graphs), (many, others) = steps(2, True), steps(8, True)
    assert graphs == others > 0
    for parts, losses in ((2, few), (8, many)):
        assert torch.allclose(losses, steps(parts, False)[0], rtol=1e-4, atol=1e-5)
