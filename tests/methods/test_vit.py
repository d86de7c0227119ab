"""The ViT: timm's own forward pass if no patch is dropped, and only the kept patches otherwise."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from twoview.methods import backbones
from twoview.methods.backbones import Backbone
from twoview.methods.vit import ViT, resized, sincos, taken

X = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return ViT(32, 2, 2, patch=4, size=16).eval()


def test_without_a_mask_it_is_timm_s(vit):
    assert torch.allclose(vit(X), vit.body(X), atol=1e-6)
    assert torch.allclose(vit.tokens(X), vit.body.forward_features(X), atol=1e-6)
    assert vit(X).shape == (3, 32) and vit.tokens(X).shape == (3, 17, 32)


def test_all_patches_kept_are_all_patches(vit):
    everything = torch.arange(16).expand(3, 16)
    assert torch.equal(vit.tokens(X, everything), vit.tokens(X))


def test_dropped_patches_are_not_seen_and_the_kept_ones_keep_their_places(vit):
    """Painting over a dropped patch changes nothing; painting over a kept one does."""
    kept = torch.tensor([[0, 5, 6], [1, 2, 15], [3, 8, 12]])
    tokens = vit.tokens(X, kept)
    assert tokens.shape == (3, 4, 32)
    painted = X.clone()
    painted[0, :, 0:4, 4:8] = 9.0  # patch 1 of image 0
    assert torch.equal(vit.tokens(painted, kept), tokens)
    painted[0, :, 4:8, 4:8] = 9.0  # patch 5
    assert not torch.equal(vit.tokens(painted, kept)[0], tokens[0])
    order = [2, 0, 1]
    assert torch.allclose(vit.tokens(X, kept[:, order])[:, 1:], tokens[:, 1:][:, order], atol=1e-5)


def test_fewer_patches_cost_fewer_operations(vit):
    """The blocks' products are linear in the tokens, except attention's: counted, and compared with the closed form."""

    def flops(kept):
        with FlopCounterMode(display=False) as counter:
            vit.tokens(X, kept)
        return counter.get_total_flops()

    few, all_ = flops(torch.arange(4).expand(3, 4)), flops(None)
    embedding = 2 * 3 * 16 * (3 * 4 * 4) * 32

    def blocks(tokens):  # qkv, proj and the two of the MLP: 12 width^2 a token; scores and their use: tokens^2 width
        return 2 * 3 * 2 * (12 * 32 * 32 * tokens + 2 * tokens * tokens * 32)

    assert all_ == embedding + blocks(17) and few == embedding + blocks(5)


def test_the_mean_of_the_patches_is_that_of_the_tokens_that_timm_pools():
    mean = ViT(32, 2, 2, patch=4, size=16, pool="mean").eval()
    tokens = mean.body.forward_features(X)
    assert torch.allclose(mean(X), mean.body.pool(tokens, "avg"), atol=1e-6)
    kept = torch.tensor([[0, 3, 9]]).expand(len(X), -1)
    assert torch.equal(mean(X, kept), mean.tokens(X, kept)[:, 1:].mean(1))


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_other_sizes_interpolate_the_positions(positions):
    encoder = ViT(32, 1, 2, patch=4, size=16, positions=positions)
    for height, width in ((8, 8), (24, 12), (16, 16)):
        x = torch.randn(2, 3, height, width)
        assert encoder.tokens(x).shape == (2, 1 + height * width // 16, 32)
    learned = {name for name, _ in encoder.named_parameters()}
    assert ("body.pos_embed" in learned) == (positions == "learned")
    encoder(X).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (20, 9), (14, 3), (1, 1)])
def test_positions_are_resized_as_timm_resizes_them_and_so_is_their_gradient(rows, columns):
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    ours = torch.randn(14, 14, 8, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    slope = torch.randn(rows * columns, 8)
    resampled = resample_abs_pos_embed(theirs.flatten(0, 1)[None], [rows, columns], num_prefix_tokens=0)[0]
    own = resized(ours, rows, columns).flatten(0, 1)
    assert torch.allclose(own, resampled, atol=1e-6)
    (own * slope).sum().backward()
    (resampled * slope).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


def test_no_backward_pass_of_an_interpolation_is_left(vit):
    """torch refuses this op on a GPU if two runs must be bit-equal."""
    seen, todo = set(), [vit.tokens(X[..., :8]).sum().grad_fn]
    while todo:
        node = todo.pop()
        seen.add(node.name())
        todo += [parent for parent, _ in node.next_functions if parent is not None]
    assert "MmBackward0" in seen and not [name for name in seen if "Upsample" in name]


def test_sincos_positions_are_mae_s():
    """Against lightly's copy of the official code, and by hand at one position of a grid that is not square."""
    from lightly.models.utils import get_2d_sine_cosine_positional_embedding

    theirs = get_2d_sine_cosine_positional_embedding(embed_dim=32, grid_size=4, cls_token=True)
    assert torch.allclose(sincos(32, 4, 4), torch.as_tensor(theirs).float(), atol=1e-6)
    table = sincos(8, 3, 5)
    assert table.shape == (16, 8) and not table[0].any()
    row, column = torch.tensor(2.0), torch.tensor(3.0)
    angles = torch.stack([column, column / 100, row, row / 100])
    expected = torch.cat([angles[:2].sin(), angles[:2].cos(), angles[2:].sin(), angles[2:].cos()])
    assert torch.allclose(table[1 + 2 * 5 + 3], expected, atol=1e-6)


def test_taken_tokens_are_those_of_the_numbers():
    tokens = torch.arange(24.0).view(2, 4, 3)
    numbers = torch.tensor([[3, 0], [1, 1]])
    assert torch.equal(taken(tokens, numbers), torch.stack([tokens[0][[3, 0]], tokens[1][[1, 1]]]))


def test_what_does_not_fit_is_named(vit):
    with pytest.raises(ValueError, match="images of 18 x 16 pixels are not divisible into patches of 4"):
        vit(torch.zeros(1, 3, 18, 16))
    with pytest.raises(ValueError, match="images of 30 pixels are not divisible into patches of 4"):
        ViT(32, 1, 2, patch=4, size=30)
    with pytest.raises(ValueError, match="width divisible by 4, got 6"):
        sincos(6, 2, 2)
    with pytest.raises(ValueError, match="patch is only for ViTs, not for resnet18"):
        Backbone(name="resnet18", patch=4)


@pytest.mark.parametrize(
    ("name", "patch", "size", "dim", "parameters"),
    [
        ("vit-mini", 4, 32, 64, 207_424),
        ("vit-tiny", 16, 224, 192, 5_524_416),
        ("vit-small", 16, 224, 384, 21_665_664),
    ],
)
def test_vits_have_their_known_sizes(name, patch, size, dim, parameters):
    """timm's numbers without the classifier: 5,717,416 - 193,000 and 22,050,664 - 385,000."""
    encoder = backbones.build(Backbone(name=name, patch=patch), size)
    assert encoder.dim == dim and sum(p.numel() for p in encoder.parameters()) == parameters


def test_only_a_vit_tells_of_patches():
    assert "patch" not in Backbone(name="resnet18").model_dump()
    assert Backbone.model_validate(Backbone(name="vit-mini", patch=4).model_dump()) == Backbone(
        name="vit-mini", patch=4
    )
