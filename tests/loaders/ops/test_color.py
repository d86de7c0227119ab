"""The ops on colors, the flip and the blur against torchvision on PIL images."""

import itertools

import numpy as np
import pytest

from tests.support.pictures import PICTURES, picture, worst
from twoview.loaders.ops import blur, flip, gray, jitter, solarize

FACTORS = [0.0, 0.2, 0.7, 1.0, 1.3, 1.8]
STEPS = [(jitter.brightness, 0), (jitter.contrast, 1), (jitter.saturation, 2)]

on_pictures = pytest.mark.parametrize(("kind", "size"), PICTURES)


def one_step(image, step, factor):
    """torchvision's picture after one step of the jitter."""
    return jitter.twin(image, [float(k == step) for k in range(4)], [factor] * 4, (step,))


@on_pictures
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(("kernel", "step"), STEPS)
def test_brightness_contrast_saturation(kind, size, factor, kernel, step):
    image = picture(kind, size)
    expected = one_step(image, step, factor)
    kernel(image, factor)
    assert np.array_equal(image, expected)


@on_pictures
@pytest.mark.parametrize("factor", [-0.5, -0.2, -0.003, 0.0, 0.1, 0.33, 0.5])
def test_hue(kind, size, factor):
    image = picture(kind, size)
    expected = one_step(image, jitter.HUE, factor)
    jitter.hue(image, factor)
    assert np.array_equal(image, expected)


def test_hue_of_every_color():
    """All 256 ** 3 colors, in pieces: PIL's rounding of the hue is one that a sample of colors could miss."""
    green, blue = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    for red in range(256):
        image = np.stack([np.full_like(green, red), green, blue], axis=-1)
        expected = one_step(image, jitter.HUE, 0.1)
        jitter.hue(image, 0.1)
        assert np.array_equal(image, expected)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_whole_jitter_in_every_order(order):
    """Every step equals PIL's, or else the next would enlarge the difference."""
    image = picture("photograph", 224)
    strengths, factors = (0.8, 0.8, 0.8, 0.2), (1.3, 0.7, 1.5, -0.13)
    expected = jitter.twin(image, strengths, factors, order)
    jitter.jitter(image, strengths, factors, order)
    assert np.array_equal(image, expected)


def test_a_step_of_no_strength_is_left_out():
    image = picture("noise", 32)
    before = image.copy()
    jitter.jitter(image, (0.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.5, 0.5), (3, 2, 1, 0))
    assert np.array_equal(image, before)


@on_pictures
@pytest.mark.parametrize(("kernel", "twin"), [(gray.gray, gray.twin), (flip.flip, flip.twin)])
def test_gray_and_flip(kind, size, kernel, twin):
    image = picture(kind, size)
    expected = twin(image)
    kernel(image)
    assert np.array_equal(image, expected)


@on_pictures
@pytest.mark.parametrize("threshold", [0, 1, 128, 255, 256])
def test_solarize(kind, size, threshold):
    image = picture(kind, size)
    expected = solarize.twin(image, threshold)
    solarize.solarize(image, threshold)
    assert np.array_equal(image, expected)


@on_pictures
@pytest.mark.parametrize(
    ("kernel", "sigma"), [(3, 0.1), (3, 2.0), (9, 3.0), (23, 0.1), (23, 0.5), (23, 1.0), (23, 2.0)]
)
def test_blur(kind, size, kernel, sigma):
    image = picture(kind, size)
    expected = blur.twin(image, kernel, sigma)
    blur.blur(image, kernel, sigma, np.zeros(blur.scratch_bytes(size, kernel), np.uint8))
    assert worst(image, expected) <= 1


@pytest.mark.parametrize("size", [5, 7, 33])
def test_odd_sizes(size):
    """No multiple of a vector's width; nothing is written past the end."""
    room = np.random.default_rng(1).integers(0, 256, size * size * 3 + 64, np.uint8)
    image, after = room[: size * size * 3].reshape(size, size, 3), room[size * size * 3 :].copy()
    expected = jitter.twin(image.copy(), (1, 1, 1, 1), (1.2, 0.8, 0.6, 0.1), (0, 1, 2, 3))
    jitter.jitter(image, (1, 1, 1, 1), (1.2, 0.8, 0.6, 0.1), (0, 1, 2, 3))
    assert np.array_equal(image, expected)
    expected = blur.twin(image.copy(), 5, 1.0)
    blur.blur(image, 5, 1.0, np.zeros(blur.scratch_bytes(size, 5), np.uint8))
    assert worst(image, expected) <= 1
    assert np.array_equal(room[size * size * 3 :], after)
