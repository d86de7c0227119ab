"""Heads trained end to end: the protocols' settings, what is frozen, and each layer's learning rate."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from twoview.loaders import reference
from twoview.loaders.views import View
from twoview.methods import optim
from twoview.methods.backbones import Backbone, build
from twoview.methods.encoder import Encoder
from twoview.methods.probes.end_to_end import Classifier, class_tokens, set_layer_rates
from twoview.methods.probes.protocols import LEE, MAE, SOLO, TAN, VISSL, protocol
from twoview.methods.vit import ViT


def encoder():
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Encoder(nn.Sequential(*body), 8)


def steps(one, count=60):
    """Train on images whose color is their label, and return the mean of the last accuracies."""
    random = torch.Generator().manual_seed(1)
    settings = one.protocol.optim.model_copy(update={"lr": 0.05, "warmup_epochs": 0})
    optimizer = optim.build(settings, one)
    accuracy = []
    one.train()
    for step in range(count):
        label = torch.randint(3, (32,), generator=random)
        x = torch.eye(3)[label][:, :, None, None].expand(32, 3, 8, 8) + torch.randn(32, 3, 8, 8, generator=random)
        optim.schedule(settings, optimizer, step / count, 1)
        out = one.loss((x,), label)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        accuracy.append(float(out["accuracy"]))
    return sum(accuracy[-10:]) / 10


@pytest.mark.parametrize("rules", [TAN, SOLO, VISSL["imagenet"], MAE])
def test_a_head_learns_and_only_what_is_told_to_changes(rules):
    one = Classifier(encoder(), rules, 3, 8)
    before = {name: value.clone() for name, value in one.encoder.state_dict().items()}
    assert steps(one) > 0.8
    changed = {name for name, value in one.encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == (set(before) if rules.whole else set()), "BatchNorm's statistics are frozen too"
    with torch.no_grad():
        assert one.eval().scores(torch.randn(5, 3, 8, 8)).shape == (5, 3)


def test_protocols_are_what_their_sources_say():
    assert (LEE.optim.name, LEE.batch, LEE.epochs, LEE.optim.lr) == ("lars", 4096, 90, pytest.approx(0.1 * 4096 / 256))
    assert (TAN.batch, TAN.epochs, TAN.optim.lr, TAN.optim.weight_decay) == (64, 100, 0.3, 1e-6)
    assert [optim.lr_at(TAN.optim, epoch, 100) for epoch in (0, 50, 100)] == pytest.approx([0.3, 0.15, 0.0])
    assert TAN.test(32).resize == 35
    assert [optim.lr_at(SOLO.optim, epoch, 100) for epoch in (0, 59.9, 60, 80)] == pytest.approx([1, 1, 0.1, 0.01])
    # The facts from the papers: epochs, where the rate falls, the transforms of a training image.
    crop, center = View(224), View(224, scale=None, resize=256, flip=0.0)
    for name, epochs, falls, train, test in (
        ("imagenet", 28, (8, 16, 24), crop, center),
        ("cifar100", 28, (8, 16, 24), View(224, scale=None, resize=224), View(224, scale=None, resize=224, flip=0.0)),
        ("places205", 14, (4, 8, 12), crop, center),
        ("inat18", 84, (24, 48, 72), crop, center),
        ("kitti-distance", 28, (8, 16, 24), crop, center),
    ):
        one = protocol("vissl", name)
        assert (one.epochs, one.optim.steps, one.train(224), one.test(224)) == (epochs, falls, train, test)
    for name, epochs in (("clevr-count", 50), ("clevr-distance", 100)):
        one = protocol("vissl", name)
        rates = [optim.lr_at(one.optim, epoch, epochs) for epoch in (0, epochs)]
        assert one.epochs == epochs and rates == pytest.approx([0.01, 1e-4])
    assert all(one.optim.nesterov and one.batchnorm and one.tokens == 4 for one in VISSL.values())
    with pytest.raises(ValueError, match="unknown protocol 'lee2024': did you mean lee2025"):
        protocol("lee2024", "cifar10")
    with pytest.raises(ValueError, match="unknown dataset of the protocol vissl 'stl10'"):
        protocol("vissl", "stl10")


def test_the_whole_of_a_clevr_image_is_seen():
    """torchvision's Resize((224, 224)), which squeezes 480 x 320."""
    pixels = np.random.default_rng(0).integers(0, 256, (320, 480, 3), dtype=np.uint8)
    view = VISSL["clevr-count"].test(64)
    ours = reference.make(pixels, view, (np.uint64(0), 0, 0, 0))
    expected = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - expected).max() <= 1


def test_four_class_tokens_are_those_of_the_last_blocks():
    torch.manual_seed(0)
    vit, x = ViT(16, 5, 2, 4, 8).eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        tokens = class_tokens(vit, x, 4)
        assert tokens.shape == (2, 64) and torch.allclose(tokens[:, 48:], vit(x), atol=1e-6)
        theirs = vit.body.get_intermediate_layers(x, n=4, return_prefix_tokens=True, norm=True)
        assert torch.allclose(tokens, torch.cat([prefix[:, 0] for _, prefix in theirs], 1), atol=1e-6)
    assert Classifier(vit, VISSL["imagenet"], 3, 8).head.in_features == 64
    assert Classifier(vit, LEE, 3, 8).head.in_features == 16


def test_layers_of_a_vit_have_the_rates_of_maes_code():
    """util/lr_decay.py: the embedding is layer 0, block b is layer b + 1, and the rest has the full rate."""
    one = Classifier(ViT(16, 3, 2, 4, 8), MAE, 3, 8)
    for name, parameter in one.named_parameters():
        inner = name.removeprefix("encoder.body.")
        layer = int(inner.split(".")[1]) + 1 if inner.startswith("blocks") else 4
        layer = 0 if inner.startswith(("cls_token", "pos_embed", "patch_embed")) else layer
        assert parameter.lr_scale == pytest.approx(0.65 ** (4 - layer)), name
    optimizer = optim.build(MAE.optim, one)
    optim.schedule(MAE.optim, optimizer, 5.0, 100)
    by_parameter = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(by_parameter) == len(list(one.parameters()))
    assert by_parameter[id(one.head.weight)] == pytest.approx(2e-3)
    assert by_parameter[id(one.encoder.body.blocks[0].attn.qkv.weight)] == pytest.approx(2e-3 * 0.65**3)


def test_stages_of_a_resnet_are_its_layers_and_another_network_has_one_rate():
    resnet = nn.Sequential(build(Backbone(name="resnet18"), 32), nn.Linear(512, 3))
    set_layer_rates(resnet, 0.5)
    rates = {name: parameter.lr_scale for name, parameter in resnet.named_parameters()}
    assert rates["0.body.conv1.weight"] == 0.5**5 and rates["0.body.layer4.0.conv1.weight"] == 0.5
    assert rates["1.weight"] == 1
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    set_layer_rates(other, 0.5)
    assert {parameter.lr_scale for parameter in other.parameters()} == {1.0}
