"""MAE against its official code, reimplemented plainly in float64, and against lightly's components."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twoview.loaders.views import View
from twoview.methods.losses.mae import image_of, mae, moments, pixels
from twoview.methods.mae import MAE, MAEOptions
from twoview.methods.vit import ViT, left_out, sincos, taken


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def some(images, patches, kept, seed=0):
    """Return int64 (B, kept), ascending, different for every image."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(patches, generator=generator)[:kept].sort().values for _ in range(images)])


def made(**changes):
    torch.manual_seed(0)
    options = {"decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2, **changes}
    return MAE(MAEOptions(**options), ViT(16, 2, 2, patch=4, size=16, positions="sincos"), (View(16),), 10).eval()


@settings(max_examples=50)
@given(images=st.integers(1, 4), patches=st.integers(1, 30), seed=st.integers(0, 99), data=st.data())
def test_gathered_and_scattered_back_every_token_is_in_its_place(images, patches, seed, data):
    kept = some(images, patches, data.draw(st.integers(1, patches)), seed)
    hidden = left_out(kept, patches)
    tokens = random(images, patches, 3)
    numbers = torch.cat([kept, hidden], dim=1)
    assert torch.equal(numbers.sort(dim=1).values, torch.arange(patches).expand(images, -1))
    gathered = taken(tokens, numbers)
    back = torch.empty_like(tokens).scatter(1, numbers[..., None].expand(-1, -1, 3), gathered)
    assert torch.equal(back, tokens)
    assert (hidden.diff(dim=1) > 0).all()


def test_pixels_are_the_official_patches_and_come_back():
    """The order is row by row, as in `patchify`: nchpwq -> nhwpqc. lightly has the same order."""
    from lightly.models.utils import patchify

    image = random(2, 3, 8, 8)
    patches = pixels(image, 4)
    assert torch.equal(patches[1, 3].view(4, 4, 3), image[1, :, 4:, 4:].permute(1, 2, 0))
    assert torch.equal(patches, patchify(image, 4))
    wide = random(2, 3, 8, 12)
    assert torch.equal(image_of(pixels(wide, 4), 4, rows=2), wide)


def plain(prediction, image, hidden, patch, normalize):
    """One patch and pixel at a time."""
    total = []
    for b, numbers in enumerate(hidden.tolist()):
        for m, number in enumerate(numbers):
            top, left = (patch * at for at in divmod(number, image.shape[-1] // patch))
            truth = [
                float(image[b, c, top + y, left + x]) for y in range(patch) for x in range(patch) for c in range(3)
            ]
            if normalize:
                mean = sum(truth) / len(truth)
                variance = sum((value - mean) ** 2 for value in truth) / (len(truth) - 1)
                truth = [(value - mean) / math.sqrt(variance + 1e-6) for value in truth]
            squares = [(float(p) - t) ** 2 for p, t in zip(prediction[b, m], truth, strict=True)]
            total.append(sum(squares) / len(squares))
    return sum(total) / len(total)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_the_plain_one(normalize):
    image, hidden = random(2, 3, 6, 9), some(2, 6, 4)
    prediction = random(2, 4, 27, seed=1)
    ours = mae(prediction, image, hidden, 3, normalize)
    assert ours.item() == pytest.approx(plain(prediction, image, hidden, 3, normalize), rel=1e-12)
    half = mae(prediction.bfloat16(), image.float(), hidden, 3, normalize)
    assert half.dtype == torch.float32 and half.item() == pytest.approx(ours.item(), rel=1e-2)


def test_the_loss_is_lightly_s():
    """As in lightly's example of MAE: `normalize_mean_var` of the patches at the masked numbers, then MSE."""
    from lightly.models import utils

    image, hidden = random(3, 3, 8, 8), some(3, 4, 3)
    prediction = random(3, 3, 48, seed=1)
    target = utils.normalize_mean_var(utils.get_at_index(utils.patchify(image, 4), hidden), dim=-1)
    assert mae(prediction, image, hidden, 4).item() == pytest.approx(float(((prediction - target) ** 2).mean()))


def test_the_loss_ignores_visible_patches():
    image, hidden, prediction = random(2, 3, 8, 8), torch.tensor([[1, 2], [0, 3]]), random(2, 2, 48, seed=1)
    before = mae(prediction, image, hidden, 4)
    image[0, :, :4, :4] = 7.0  # patch 0
    image[0, :, 4:, 4:] = -7.0  # patch 3
    image[1, :, :4, 4:] = 7.0  # patch 1
    assert torch.equal(mae(prediction, image, hidden, 4), before)
    image[0, 0, 0, 4] += 1.0  # patch 1
    assert not torch.equal(mae(prediction, image, hidden, 4), before)


def test_gradients_of_the_loss():
    prediction = random(2, 2, 12).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: mae(p, random(2, 3, 4, 4, seed=1), some(2, 4, 2), 2), prediction)


def test_a_prediction_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"prediction must have shape \(2, 2, 12\) and not be empty, got \(2, 2, 11\)"):
        mae(random(2, 2, 11), random(2, 3, 4, 4), some(2, 4, 2), 2)
    with pytest.raises(ValueError, match=r"prediction must have shape \(2, 0, 12\) and not be empty"):
        mae(random(2, 0, 12), random(2, 3, 4, 4), some(2, 4, 0), 2)


def official(method, image, kept):
    """`forward_encoder`, `forward_decoder` and `forward_loss` of models_mae.py with the method's weights.

    Masked tokens are put back into their places, positions are added there, and the loss uses a mask.
    """
    body, decoder, patches = method.encoder.body, method.decoder, method.masks[0].patches
    weight = body.patch_embed.proj.weight.permute(0, 2, 3, 1).flatten(1)  # as a linear layer on patches
    table = sincos(16, 4, 4).double()
    h = pixels(image, 4) @ weight.T + body.patch_embed.proj.bias + table[1:]
    h = torch.stack([row[numbers] for row, numbers in zip(h, kept, strict=True)])
    h = body.norm(body.blocks(torch.cat([(body.cls_token[0] + table[:1]).expand(len(h), 1, -1), h], 1)))
    h = decoder.embed(h)
    full = decoder.mask_token.repeat(len(h), patches, 1)
    for b, numbers in enumerate(kept):
        full[b, numbers] = h[b, 1:]
    h = torch.cat([h[:, :1], full], 1) + table
    prediction = decoder.predict(decoder.norm(decoder.blocks(h)))[:, 1:]
    target = pixels(image, 4)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    mask = torch.ones(len(image), patches)
    for b, numbers in enumerate(kept):
        mask[b, numbers] = 0
    return ((prediction - target).square().mean(-1) * mask).sum() / mask.sum()


def test_the_method_is_the_official_one_in_float64():
    method = made().double()
    image, kept = random(3, 3, 16, 16), some(3, 16, 4)
    ours = method.loss((image,), torch.zeros(3), (kept,))["loss"]
    assert ours.item() == pytest.approx(official(method, image, kept).item(), rel=1e-6), "sincos tables are float32"


def test_every_position_counts_and_stands_in_order():
    """If the decoder sees only positions, it knows each hidden patch by its own row of the table."""
    method = made(decoder_depth=1)
    decoder = method.decoder
    assert torch.allclose(decoder.positions[0], sincos(16, 4, 4))
    seen = []
    decoder.blocks.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    with torch.no_grad():
        decoder.embed.weight.zero_(), decoder.mask_token.zero_()
    kept = some(2, 16, 4)
    hidden, _ = method.predicted(random(2, 3, 16, 16, dtype=torch.float32), kept)
    for b in range(2):
        expected = sincos(16, 4, 4)[[0, *(1 + kept[b]).tolist(), *(1 + hidden[b]).tolist()]]
        assert torch.allclose(seen[0][b], expected)


def test_the_encoder_sees_a_quarter_and_the_hidden_patches_get_all_of_the_prediction():
    method, lengths = made(), []
    assert method.masks[0].kept == 4
    method.encoder.body.blocks.register_forward_hook(lambda module, args, out: lengths.append(out.shape[1]))
    hidden, prediction = method.predicted(random(3, 3, 16, 16, dtype=torch.float32), some(3, 16, 4))
    assert lengths == [5] and hidden.shape == (3, 12) and prediction.shape == (3, 12, 48)


def test_moments_undo_themselves():
    patches = random(2, 3, 12)
    mean, std = moments(patches)
    assert torch.allclose((patches - mean) / std * std + mean, patches)


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"mae takes a ViT: backbone\.name must be one of vit-mini"):
        from twoview.methods import backbones

        MAE(MAEOptions(), backbones.build(backbones.Backbone(width=8)), (View(16),), 10)
    with pytest.raises(ValueError, match=r"a share of 0.0\d* leaves none of 16 patches"):
        made(masked=0.95)
    with pytest.raises(ValueError, match="view of 18 pixels is not divisible into patches of 4"):
        MAE(MAEOptions(), ViT(16, 1, 2, patch=4, size=16), (View(18),), 10)
    with pytest.raises(ValueError, match="masked"):
        MAEOptions(masked=1.0)
