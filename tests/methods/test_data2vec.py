"""data2vec against its official code, reimplemented plainly in float64."""

import math

import pytest
import torch

from twoview.loaders.views import View
from twoview.methods.data2vec import Data2Vec, Data2VecOptions
from twoview.methods.losses.data2vec import data2vec, targets
from twoview.methods.vit import ViT


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def made(drop_path=0.0, **changes):
    torch.manual_seed(0)
    encoder = ViT(16, 3, 2, patch=4, size=16, drop_path=drop_path)
    return Data2Vec(Data2VecOptions(**{"smallest": 2, "layers": 2, **changes}), encoder, (View(16),), 10)


KEPT = torch.tensor([[0, 1, 4, 5, 11, 15], [2, 3, 6, 7, 8, 9], [0, 3, 9, 10, 12, 14]])


def plain_loss(prediction, target, beta):
    distances = [abs(p - t) for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True)]
    return sum(d * d / (2 * beta) if d < beta else d - beta / 2 for d in distances) / len(distances)


@pytest.mark.parametrize("beta", [0.12, 2.0])
def test_the_loss_is_the_plain_one(beta):
    prediction, target = random(2, 3, 5), 2 * random(2, 3, 5, seed=1)
    ours = data2vec(prediction, target, beta)
    assert ours.item() == pytest.approx(plain_loss(prediction, target, beta), rel=1e-12)
    assert data2vec(prediction.bfloat16(), target.bfloat16(), beta).dtype == torch.float32
    assert torch.autograd.gradcheck(lambda p: data2vec(p, target, beta), prediction.requires_grad_())


def standardized(values):
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return [(value - mean) / math.sqrt(variance + 1e-5) for value in values]


def test_targets_are_normalized_layer_by_layer_and_again():
    layers = [random(2, 3, 4, seed=seed) for seed in range(3)]
    ours = targets(layers)
    for b in range(2):
        for t in range(3):
            rows = [standardized(layer[b, t].tolist()) for layer in layers]
            expected = standardized([sum(column) / 3 for column in zip(*rows, strict=True)])
            assert ours[b, t].tolist() == pytest.approx(expected, abs=1e-5)


def official(method, image, kept):
    """modeling_cyclical.py and engine_for_cyclical.py, with the method's weights, one image at a time."""
    body, teacher, beta = method.encoder.body, method.teacher.body, method.options.beta
    losses = []
    for x, visible in zip(image, kept.tolist(), strict=True):
        hidden = [patch for patch in range(16) if patch not in visible]

        def patches(of, x=x):
            return of.patch_embed.proj(x[None]).flatten(2).transpose(1, 2)[0]

        with torch.no_grad():
            h = torch.cat([teacher.cls_token[0], patches(teacher)]) + teacher.pos_embed[0]
            h, outputs = h[None], []
            for block in teacher.blocks:
                h = block(h)
                outputs.append(h[0, 1:])
            layers = [torch.nn.functional.layer_norm(z, (16,)) for z in outputs[-method.options.layers :]]
            target = torch.nn.functional.layer_norm(sum(layers) / len(layers), (16,))
        h = patches(body)
        h = torch.stack([method.mask_token if patch in hidden else h[patch] for patch in range(16)])
        h = torch.cat([body.cls_token[0], h]) + body.pos_embed[0]
        h = method.head(body.norm(body.blocks(h[None]))[0, 1:])
        losses.append(plain_loss(h[hidden], target[hidden], beta))
    return sum(losses) / len(losses)


def test_the_method_is_the_official_one_in_float64():
    method = made().double()
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.1 * random(*p.shape, seed=p.numel()))
    image = random(3, 3, 16, 16)
    ours = method.loss((image,), torch.zeros(3), (KEPT,))["loss"]
    assert ours.item() == pytest.approx(official(method, image, KEPT), rel=1e-5), "targets are float32"


def test_the_teacher_gets_no_gradient_and_the_student_sees_no_hidden_pixel():
    method = made()
    image = random(3, 3, 16, 16, dtype=torch.float32).requires_grad_()
    target = method.target(image)
    assert not target.requires_grad
    method.loss((image,), torch.zeros(3), (KEPT,))["loss"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.encoder.parameters())
    seen = image.grad[0].abs().sum(0).unflatten(0, (4, 4)).unflatten(2, (4, 4)).sum((1, 3)).flatten() > 0
    assert seen.nonzero().flatten().tolist() == KEPT[0].tolist(), "the gradient reaches kept patches alone"


def test_the_teacher_follows_along_a_line_and_then_at_its_pace():
    method = made(momentum=0.5, final_momentum=0.9, rising=0.4)
    for progress, momentum in ((0.0, 0.5), (0.1, 0.6), (0.4, 0.9), (1.0, 0.9)):
        with torch.no_grad():
            for p in method.encoder.parameters():
                p.add_(1.0)
        before = [p.clone() for p in method.teacher.parameters()]
        method.after_step(torch.tensor(progress) if progress == 0.1 else progress)
        for old, now, student in zip(before, method.teacher.parameters(), method.encoder.parameters(), strict=True):
            assert torch.allclose(now, momentum * old + (1 - momentum) * student, atol=1e-6)


def test_the_teacher_skips_no_block():
    method = made(drop_path=0.9).train()
    image = random(3, 3, 16, 16, dtype=torch.float32)
    assert method.training and method.encoder.training and not method.teacher.training
    assert torch.equal(method.target(image), method.target(image))
    torch.manual_seed(0)
    assert not torch.equal(method.encoder(image), method.encoder(image))


def test_masks_are_blocks_of_the_official_number():
    method = Data2Vec(Data2VecOptions(layers=1), ViT(16, 1, 2, patch=16, size=224), (View(224),), 10)
    (mask,) = method.masks
    assert (mask.kind, mask.patches - mask.kept, mask.smallest) == ("block", 120, 16)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="layers must be at most the backbone's 3 blocks, got 6"):
        made(layers=6)
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        data2vec(random(2, 3, 4), random(2, 3, 4), 0)
    with pytest.raises(ValueError, match=r"prediction must have shape \(2, 3, 4\) and not be empty, got \(2, 2, 4\)"):
        data2vec(random(2, 2, 4), random(2, 3, 4))
