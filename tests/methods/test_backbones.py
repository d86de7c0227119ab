"""Wide ResNets and AlexNet: the papers' sizes and layers."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twoview.methods import backbones
from twoview.methods.backbones import Backbone


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def of_wide(depth, widen):
    """The number of parameters in closed form: two convolutions and norms a block; a 1 x 1 where the width changes."""
    n, widths = (depth - 4) // 6, [16] + [16 * widen * 2**stage for stage in range(3)]
    count = 27 * 16 + 2 * widths[3]
    for width, out in pairwise(widths):
        count += 9 * width * out + (2 * n - 1) * 9 * out**2 + 2 * width + (2 * n - 1) * 2 * out
        count += width * out if width != out else 0
    return count


@pytest.mark.parametrize(
    ("depth", "widen", "published"),
    [(10, 1, None), (34, 5, None), (40, 4, 8.9e6), (16, 8, 11.0e6), (28, 10, 36.5e6)],
)
def test_a_wide_resnet_is_as_large_as_its_closed_form_and_its_paper_say(depth, widen, published):
    with torch.device("meta"):
        encoder = backbones.build(Backbone(name="wide-resnet", depth=depth, widen=widen))
    assert parameters(encoder) == of_wide(depth, widen) and encoder.dim == 64 * widen
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in encoder.modules()) == depth - 3
    if published:  # with the classifier, in Zagoruyko and Komodakis 2016
        assert parameters(encoder) + 10 * (encoder.dim + 1) == pytest.approx(published, abs=5e4)


def test_a_wide_resnet_s_first_block_by_hand():
    torch.manual_seed(0)
    stem, block, *_ = backbones.build(Backbone(name="wide-resnet", depth=10, widen=2)).eval().body
    x = stem(torch.randn(2, 3, 8, 8))
    h = F.relu(block.norm1(x))
    wanted = F.conv2d(h, block.skip.weight) + block.conv2(F.relu(block.norm2(block.conv1(h))))
    assert torch.allclose(block(x), wanted, atol=1e-6)


@pytest.mark.parametrize("width", [8, 96])
def test_an_alexnet_has_five_convolutions_and_averages_three_by_three_pixels(width):
    encoder = backbones.build(Backbone(name="alexnet", width=width)).eval()
    channels = [3, *(times * width for times in (1, 2, 4, 4, 2))]
    counts = [9 * a * b + 2 * b for a, b in pairwise(channels)]
    assert parameters(encoder) == sum(counts) and encoder.dim == 2 * width
    assert encoder.body[:-1](torch.zeros(1, 3, 32, 32)).shape == (1, 2 * width, 3, 3)


def test_keys_of_others_and_a_depth_that_no_blocks_make_are_named():
    with pytest.raises(ValueError, match="widen is only for wide-resnet, not for alexnet"):
        Backbone(name="alexnet", widen=2)
    with pytest.raises(ValueError, match=r"must be 6 n \+ 4"):
        Backbone(name="wide-resnet", depth=33)
    assert "depth" not in Backbone(name="alexnet").model_dump()
    wide = Backbone(name="wide-resnet", depth=10)
    assert Backbone.model_validate(wide.model_dump()) == wide and "patch" not in wide.model_dump()
