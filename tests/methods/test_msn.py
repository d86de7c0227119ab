"""MSN's views, masks and networks; PMSN's priors; how training changes the prototypes."""

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from twoview.loaders import masks
from twoview.loaders.presets import preset
from twoview.loaders.views import View
from twoview.methods import backbones, optim, registry
from twoview.methods.backbones import Backbone
from twoview.methods.losses.priors import histogram, power_law, uniform
from twoview.methods.optim import Optim
from twoview.methods.probes.online import Online
from twoview.methods.vit import ViT

VIEWS = (View(16), View(16), View(8))
SMALL = {"hidden": 8, "projection": 8, "layers": 2, "prototypes": 12, "focal_views": 3}


def make(name="msn", classes=4, views=VIEWS, encoder=None, **changes):
    torch.manual_seed(0)
    entry = registry.entry(name)
    encoder = encoder or ViT(16, 2, 2, patch=4, size=16)
    return entry.build(entry.options(name=name, **SMALL | changes), encoder, views, classes)


def batch(method, seed=0, images=8):
    generator = torch.Generator().manual_seed(seed)
    views = tuple(torch.randn(images, 3, view.size, view.size, generator=generator) for view in method.views)
    kept = tuple(torch.from_numpy(masks.draw(mask, np.arange(images), seed, 0)) for mask in method.masks)
    return views, torch.randint(0, 4, (images,), generator=generator), kept


def test_the_defaults_are_the_official_constants():
    options = registry.entry("msn").options(name="msn")
    assert (options.temperature, options.sharpening, options.sinkhorn) == (0.1, 0.25, 3)
    assert (options.prototypes, options.projection, options.weight, options.entropy_weight) == (1024, 256, 1.0, 0.0)
    assert (options.hidden, options.layers, options.norm) == (2048, 3, "hidden")
    assert (options.momentum, options.final_momentum, options.momentum_stretch) == (0.996, 1.0, 1.25)
    options = registry.entry("pmsn").options(name="pmsn")
    assert (options.prior, options.exponent, options.sinkhorn, options.divergence) == ("power-law", 0.25, 0, "to-prior")
    with torch.device("meta"):
        method = make(encoder=ViT(384, 1, 6, 16, 224), views=preset("msn", 224), hidden=2048, projection=256, layers=3)
    layers = [type(module).__name__ for module in method.projector]
    assert layers == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]
    assert [tuple(layer.weight.shape) for layer in method.projector[::3]] == [(2048, 384), (2048, 2048), (256, 2048)]


@pytest.mark.parametrize(("drop", "kept"), [(0.15, 166), (0.7, 58)])
def test_the_random_view_alone_loses_patches(drop, kept):
    """Of 196 patches, the official code's number is kept: floor(196 * (1 - drop))."""
    with torch.device("meta"):
        method = make(encoder=ViT(16, 1, 2, 16, 224), views=preset("msn", 224), focal_views=10, patch_drop=drop)
    assert [view.size for view in method.views] == [224, 224] + [96] * 10
    assert [(mask.view, mask.kept, mask.patches) for mask in method.masks] == [(1, kept, 196)]


def test_lightlys_focal_views_lose_patches_too():
    assert [mask.view for mask in make(drop_focal=True, patch_drop=0.5).masks] == [1, 2, 3, 4]
    assert [mask.kept for mask in make(drop_focal=True, patch_drop=0.5).masks] == [8, 2, 2, 2]


def test_only_kept_patches_go_through_the_encoder_and_views_of_a_size_at_once():
    """Tokens that the blocks see, and FLOPs: apart from attention, the blocks' FLOPs are proportional to the tokens."""
    shapes, flops = {}, {}
    for drop in (0.0, 0.5):
        method, seen = make(patch_drop=drop), []
        hook = method.encoder.body.blocks[0].register_forward_hook(lambda block, x, out, s=seen: s.append(out.shape))
        data = batch(method)
        with FlopCounterMode(display=False) as counter:
            method.loss(*data)
        hook.remove()
        shapes[drop], flops[drop] = [tuple(shape[:2]) for shape in seen], counter.get_total_flops()
    assert shapes == {0.0: [(8, 17), (24, 5)], 0.5: [(8, 9), (24, 5)]}  # with the class token
    # 8 tokens of 8 images less, in 2 blocks of 12 width^2 products each, and what the class token is not attended by.
    assert flops[0.0] - flops[0.5] >= 8 * 8 * 2 * 12 * 16**2 * 2


def test_a_dropped_patch_is_not_seen_and_a_kept_one_is():
    method = make(patch_drop=0.5).eval()
    (target, random, *focal), label, kept = batch(method)
    hidden = torch.ones(8, 16).scatter(1, kept[0], 0.0).reshape(8, 1, 4, 4)
    hidden = hidden.repeat_interleave(4, 2).repeat_interleave(4, 3)
    loss = method.loss((target, random, *focal), label, kept)["loss"]
    assert torch.equal(method.loss((target, random + 9 * hidden, *focal), label, kept)["loss"], loss)
    assert not torch.equal(method.loss((target, random + 9 * (1 - hidden), *focal), label, kept)["loss"], loss)


def test_a_resnet_takes_no_masks():
    method = make(encoder=backbones.build(Backbone(width=8)), patch_drop=0.0)
    assert method.masks == () and method.loss(*batch(method))["loss"].isfinite()
    with pytest.raises(ValueError, match="msn with patch_drop takes a ViT"):
        make(encoder=backbones.build(Backbone(width=8)), patch_drop=0.15)


@pytest.mark.parametrize("sinkhorn", [0, 3])
def test_pmsn_with_the_uniform_prior_is_msn_to_the_last_bit(sinkhorn, one_thread):
    """Return losses and weights over five steps."""
    found = []
    for name, changes in (("msn", {}), ("pmsn", {"prior": "uniform"}), ("pmsn", {"exponent": 0.0})):
        method = make(name, sinkhorn=sinkhorn, **changes)
        optimizer = optim.build(Optim(name="adamw", lr=1e-2), method)
        losses = []
        for step in range(5):
            loss = method.loss(*batch(method, step))["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(step / 5)
            losses.append(loss.item())
        found.append((losses, [p.detach().clone() for p in method.parameters()]))
    (losses, weights), *others = found
    for other_losses, other_weights in others:
        assert other_losses == losses and all(map(torch.equal, other_weights, weights))


def test_the_priors_of_pmsn():
    label = torch.tensor([0, 0, 0, 2, 2, 0, 0, 1])
    assert torch.equal(make("pmsn").prior(label), power_law(12, 0.25))
    assert torch.equal(make("pmsn", prior="uniform").prior(label), uniform(12))
    counted = make("pmsn", prior="classes")
    counted.prior(label[:4])
    assert torch.equal(counted.prior(label[4:]), histogram(torch.tensor([5, 1, 2, 0]), 12))
    assert torch.equal(counted.marginal(power_law(12)), power_law(12))
    assert torch.equal(make("pmsn", marginal="uniform").marginal(power_law(12)), uniform(12))


def test_the_target_follows_along_the_official_line():
    method = make(momentum=0.9, final_momentum=1.0, momentum_stretch=1.25)
    before = [p.clone() for p in method.target.parameters()]
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.projector.parameters()):
            parameter.add_(1.0)
    method.after_step(0.5)
    # Along a straight line over 1.25 times the run: 0.9 + 0.1 * 0.5 / 1.25.
    assert all(
        torch.allclose(p, old + 0.06, atol=1e-6) for p, old in zip(method.target.parameters(), before, strict=True)
    )


def test_the_probes_see_the_targets_encoder():
    method = make().eval()
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(0.1)
    (image, *_), *_ = batch(method)
    for one in (method, Online(method, 4)):
        assert one.probed is method.target[0] and one.encoder is method.encoder
        assert torch.equal(one.encode(image), method.target[0](image))
        assert not torch.allclose(one.encode(image), method.encoder(image))


def test_prototypes_train_unless_frozen_and_never_decay():
    method = make()
    groups = optim.build(Optim(name="adamw", weight_decay=0.1), method).param_groups
    (own,) = [group for group in groups if any(p is method.prototypes for p in group["params"])]
    assert len(own["params"]) == 1 and own["weight_decay"] == 0
    assert method.prototypes.abs().max() <= 1 / math.sqrt(8)
    frozen = make(frozen_prototypes=True)
    frozen.loss(*batch(frozen))["loss"].backward()
    assert frozen.prototypes.grad is None
    built = optim.build(Optim(), frozen).param_groups
    assert all(p is not frozen.prototypes for group in built for p in group["params"])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"views": VIEWS[:2]}, "msn takes a target, a random and a focal view, but the recipe has 2 views"),
        ({"patch_drop": 0.99}, "leaves none of 16 patches"),
        ({"views": (View(16), View(18), View(8)), "patch_drop": 0.5}, "18 pixels is not divisible into patches of 4"),
        ({"views": (View(16), View(16), View(10))}, "msn: a view of 10 pixels is not divisible into patches of 4"),
        ({"patch_drop": 1.0}, "patch_drop"),
        ({"sharpening": 0.0}, "sharpening"),
        ({"divergence": "both"}, "divergence"),
    ],
)
def test_bad_options(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        make(**changes)
