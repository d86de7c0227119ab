"""Properties of every method: shapes, gradients, checkpoints. Also the math of SimCLR and supervised training."""

import copy

import pytest
import torch

from tests.support.small_methods import METHODS, batch, make
from twoview.loaders.views import View
from twoview.methods import backbones, optim, precision, registry
from twoview.methods.backbones import Backbone
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.optim import Optim
from twoview.methods.simclr import SimCLROptions
from twoview.methods.supervised import SupervisedOptions


@pytest.mark.parametrize("name", METHODS)
def test_the_contract(name):
    method = make(name)
    views, label, masks = batch(method)
    out = method.loss(views, label, masks)
    assert out["loss"].shape == () and out["loss"].requires_grad and all(v.isfinite() for v in out.values())
    out["loss"].backward()
    learned = [p for p in method.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learned)
    assert all(p.grad is None for p in method.parameters() if not p.requires_grad)
    assert {id(p) for p in method.encoder.parameters()} <= {id(p) for p in learned}
    assert method.encode(views[0]).shape == (6, method.encoder.dim)
    method.after_step(0.5)


@pytest.mark.parametrize("name", METHODS)
def test_another_number_of_views_is_an_error(name):
    entry = registry.entry(name)
    views = (View(16),) * (5 - entry.method.takes)
    with pytest.raises(ValueError, match=f"{name} takes|number of views must be {entry.method.takes} for {name}"):
        entry.build(entry.options(name=name), backbones.build(Backbone(width=8)), views, 10)


def steps(method, optimizer, numbers):
    losses = []
    for number in numbers:
        loss = method.loss(*batch(method, number))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(number / 10)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", METHODS)
def test_all_that_a_method_remembers_is_in_its_checkpoint(name, one_thread):
    whole, other = make(name), make(name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    optimizer = optim.build(Optim(lr=0.05, momentum=0.0), whole)
    steps(whole, optimizer, range(3))
    other.load_state_dict(copy.deepcopy(whole.state_dict()))
    theirs = steps(other, optim.build(Optim(lr=0.05, momentum=0.0), other), range(3, 6))
    assert theirs == steps(whole, optimizer, range(3, 6))


@pytest.mark.parametrize("name", METHODS)
def test_bf16_autocast_gives_a_float32_loss_near_the_exact_one(name):
    method = make(name).eval()
    exact = copy.deepcopy(method).loss(*batch(method))["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(*batch(method))["loss"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.1, abs=0.05)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "moco"])  # its queue then holds the batch
def test_every_method_learns_a_batch_by_heart(name):
    method = make(name)
    optimizer = optim.build(Optim(name="adamw", lr=0.01), method)
    by_heart = batch(method, images=8)
    losses = []
    for _ in range(15):
        loss = method.loss(*by_heart)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.02 * abs(losses[0])


def test_an_unknown_method_is_an_error_with_the_nearest():
    with pytest.raises(ValueError, match=r"'simclar': did you mean simclr\?"):
        registry.entry("simclar")


def test_simclr_pairs_the_views_of_an_image():
    method = registry.entry("simclr").build(SimCLROptions(), backbones.build(Backbone(width=8)), (View(8),) * 2, 10)
    method.eval()  # BatchNorm then treats the two views alike, joined or apart
    x1, x2 = torch.randn(2, 5, 3, 8, 8)
    z1, z2 = (method.projector(method.encode(x)) for x in (x1, x2))
    assert torch.allclose(method.loss((x1, x2), torch.zeros(5))["loss"], nt_xent(z1, z2, 0.5), atol=1e-5)


def test_simclr_runs_one_forward_for_both_views():
    method, sizes = make("simclr"), []
    method.encoder.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    method.loss(*batch(method))
    assert sizes == [12]


def test_simclr_holds_local_crops_against_the_two_large_views():
    """The mean over every pair except the pair of the two crops, each pair's loss by the definition, in float64."""
    views = (View(16), View(16), View(8), View(8))
    method = registry.entry("simclr").build(SimCLROptions(hidden=8), backbones.build(Backbone(width=8)), views, 10)
    method.double().eval()  # BatchNorm then treats the views of a size alike, joined or apart
    images = [torch.randn(5, 3, view.size, view.size, dtype=torch.float64) for view in views]
    unit = [torch.nn.functional.normalize(method.projector(method.encode(x))) for x in images]

    def definition(one, other):
        z = torch.cat([one, other])
        similar = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
        partner = torch.arange(10).roll(5)
        return (similar.logsumexp(1) - similar[torch.arange(10), partner]).mean()

    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    expected = sum(definition(unit[one], unit[other]) for one, other in pairs) / len(pairs)
    assert method.loss(tuple(images), torch.zeros(5))["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("sizes", [(16,), (16, 8), (16, 16, 16), (16, 16, 8, 4), (8, 8, 16)])
def test_simclr_takes_two_views_of_a_size_and_smaller_crops_of_another(sizes):
    with pytest.raises(ValueError, match=f"simclr takes two views .* sizes {', '.join(map(str, sizes))}$"):
        registry.entry("simclr").build(SimCLROptions(), backbones.build(Backbone(width=8)), tuple(map(View, sizes)), 10)


def test_supervised_reports_its_accuracy():
    torch.manual_seed(0)
    method = registry.entry("supervised").build(SupervisedOptions(), backbones.build(Backbone(width=8)), (View(8),), 3)
    method.eval()
    x = torch.randn(8, 3, 8, 8)
    guess = method.classifier(method.encode(x)).argmax(1)
    label = guess.clone()
    label[:2] = (label[:2] + 1) % 3
    assert float(method.loss((x,), label)["accuracy"]) == 0.75


@pytest.mark.parametrize(
    ("backbone", "dim", "parameters"),
    [
        (Backbone(name="resnet-tiny", width=16), 128, 204_176),
        (Backbone(name="resnet-small", width=32), 128, 307_360),
        (Backbone(name="resnet18", stem="imagenet"), 512, 11_176_512),
        (Backbone(name="resnet18", stem="cifar"), 512, 11_168_832),
        (Backbone(name="resnet50", stem="imagenet"), 2048, 23_508_032),
    ],
)
def test_backbones_have_their_known_sizes(backbone, dim, parameters):
    encoder = backbones.build(backbone)
    assert encoder.dim == dim and sum(p.numel() for p in encoder.parameters()) == parameters
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, dim)


def test_a_cpu_trains_in_the_precision_that_measures_faster(monkeypatch):
    encoder = backbones.build(Backbone(width=8))
    monkeypatch.setattr(precision, "ENOUGH_SECONDS", 0)
    for fast in ("bf16", "fp32"):
        monkeypatch.setattr(precision, "_seconds", lambda one, side, kind, fast=fast: 1.0 if kind == fast else 2.0)
        assert precision.on_cpu(encoder, 32) == fast
    monkeypatch.undo()
    assert precision.on_cpu(encoder, 32) in ("fp32", "bf16")


def test_the_precision_is_timed_on_the_encoder_itself():
    """The attention of a narrow ViT is slower in bf16 on every CPU, regardless of convolutions."""
    assert precision.on_cpu(backbones.build(Backbone(name="vit-mini", patch=4), 32), 32) == "fp32"
