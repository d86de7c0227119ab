"""Random erasing: the kernel against torchvision, the distribution of the draws, and refused settings."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomErasing

from twoview.loaders.decode import view_table
from twoview.loaders.ops import erase
from twoview.loaders.ops.op import after
from twoview.loaders.views import Erase, View

N, SEED = 5_000, 11
DEFAULTS = tuple(Erase())[: erase.LEVEL]


@given(size=st.integers(1, 70), data=st.data(), level=st.integers(0, 255))
def test_any_box(size, data, level):
    top, left = (data.draw(st.integers(0, size)) for _ in range(2))
    height, width = data.draw(st.integers(0, size - top)), data.draw(st.integers(0, size - left))
    image = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    box = top, left, height, width
    assert np.array_equal(after(erase.erase, image, *box, level), erase.reference(image, *box, level))


ordered = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
ratios = st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)).map(sorted)


@given(size=st.integers(1, 300), scale=ordered, ratio=ratios, seed=st.integers(0, 2**64 - 1))
def test_every_drawn_box_lies_in_the_view(size, scale, ratio, seed):
    for sample in range(5):
        _, top, left, height, width = erase.draw(size, *scale, *ratio, 0.5, np.uint64(seed), 0, sample, 0)
        assert 0 <= top <= size - height and 0 <= left <= size - width and height >= 0 and width >= 0
        assert (height < size and width < size) or (height, width) == (0, 0)


@pytest.mark.parametrize(("scale", "ratio"), [((0.02, 0.33), (0.3, 3.3)), ((0.5, 0.9), (0.2, 1.0))])
def test_parameters(scale, ratio):
    """The distributions are the same as torchvision's. In the second case many boxes do not fit and are drawn again."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        size, image = 96, torch.empty(3, 96, 96)
        theirs = np.array([RandomErasing.get_params(image, scale, ratio, [0.0])[:4] for _ in range(N)])
    ours = np.array([erase.draw(size, *scale, *ratio, 0.5, SEED, 0, sample, 0) for sample in range(N)])
    assert stats.binomtest(int(ours[:, 0].sum()), N, 0.5).pvalue > 0.01
    theirs[theirs[:, 2] == size] = 0  # torchvision returns this if no box fits
    for k in range(4):
        assert stats.ks_2samp(ours[:, 1 + k], theirs[:, k]).pvalue > 0.01


def test_torchvisions_transform_has_the_same_settings():
    theirs, default = erase.ERASE.torchvision(Erase(0.1, 0.2, 0.5, 2.0, 7, 0.9)), RandomErasing()
    assert (theirs.p, theirs.scale, theirs.ratio, theirs.value) == (0.9, (0.1, 0.2), (0.5, 2.0), 7)
    assert (*default.scale, *default.ratio) == DEFAULTS and (Erase().level, Erase().p) == (default.value, default.p)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Erase(scale_min=0.5, scale_max=0.1), "the erased shares of a view must be from 0 to 1"),
        (Erase(scale_max=1.5), "the erased shares of a view must be from 0 to 1"),
        (Erase(ratio_min=0.0), "the erased boxes' ratios must be positive"),
        (Erase(level=256), "the erased boxes' level must be a whole number from 0 to 255"),
        (Erase(level=0.5), "the erased boxes' level must be a whole number from 0 to 255"),
        (Erase(p=2.0), "probabilities must be from 0 to 1"),
    ],
)
def test_what_it_refuses(settings, complaint):
    with pytest.raises(ValueError, match=rf"^{complaint}.*: View\(size=8"):
        view_table([View(8, erase=settings)])
