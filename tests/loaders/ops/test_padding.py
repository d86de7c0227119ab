"""The crop with padding against torchvision's `RandomCrop(size, padding)`, after its `Resize` if the size differs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision.transforms import functional as F

from twoview.loaders.decode import view_table
from twoview.loaders.ops import crop, resize
from twoview.loaders.views import View, checked

N, SEED = 5_000, 11


def cropped(image, side, size, padding, key, bicubic=False, flipped=False):
    """Return our result, and torchvision's with the same parameters."""
    height, width, _ = image.shape
    *full, top, left = crop.padded(height, width, side, size, padding, *key)
    out = np.empty((size, size, 3), np.uint8)
    scratch = np.empty(resize.scratch_bytes(height, width, size), np.uint8)
    resize.resize(image, 0, 0, height, width, *full, top, left, bicubic, flipped, out, scratch)
    return out, crop.padded_reference(image, side, size, padding, top, left, bicubic)


@pytest.mark.parametrize("flipped", [False, True])
def test_random_crop_32_4_of_images_of_32_pixels(flipped):
    """Each of the 81 crops is a part of the padded image, mirrored if it is flipped."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    crops = {padded[y : y + 32, x : x + 32].tobytes(): (y, x) for y in range(9) for x in range(9)}
    seen = set()
    for sample in range(1000):
        ours, theirs = cropped(image, 32, 32, 4, (SEED, 0, sample, 0), flipped=flipped)
        ours = ours[:, ::-1] if flipped else ours
        assert np.array_equal(ours, theirs)
        seen.add(crops[ours.tobytes()])
    assert len(seen) == 81


@settings(max_examples=60)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    size=st.integers(8, 40),
    extra=st.integers(0, 20),
    padding=st.integers(0, 7),
    bicubic=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_image(height, width, size, extra, padding, bicubic, seed):
    """Images of every shape, enlarged or reduced first."""
    side = max(1, size - 2 * padding) + extra
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    ours, theirs = cropped(image, side, size, padding, (np.uint64(seed), 3, 1, 2), bicubic)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 60), (50, 32)])
def test_corners_are_uniform(height, width):
    ours = np.array([crop.padded(height, width, 32, 32, 4, SEED, 0, sample, 0) for sample in range(N)])
    full_height, full_width = F.resize(Image.new("RGB", (width, height)), 32).size[::-1]
    assert (ours[:, :2] == (full_height, full_width)).all()
    for corners, full in ((ours[:, 2], full_height), (ours[:, 3], full_width)):
        counts = np.bincount(corners + 4, minlength=full - 32 + 9)
        assert len(counts) == full - 32 + 9 and stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
    ("view", "complaint"),
    [
        (View(32, padding=4), "padding must be None where scale is given, got 4"),
        (View(32, scale=None, resize=20, padding=4), "resize \\+ 2 \\* padding must be at least size, got 28"),
    ],
)
def test_a_view_that_cannot_be_made_is_named(view, complaint):
    with pytest.raises(ValueError, match=rf"^{complaint}: View\(size=32"):
        view_table([view])


@pytest.mark.parametrize(
    ("padding", "found"), [(32, "from 0 to 31, got 32"), (-1, "from 0 to 31"), (0.5, "a whole number, got 0.5")]
)
def test_what_padding_must_be(padding, found):
    with pytest.raises(ValueError, match=rf"^a view's padding must be {found}"):
        checked((View(32, scale=None, padding=padding),))
