"""The ops on colors, the flip and the blur against torchvision on PIL images."""

import itertools

import numpy as np
import pytest

from tests.support.images import IMAGES, sample_image, worst
from twoview.loaders.ops import blur, flip, gray, jitter, solarize

FACTORS = [0.0, 0.2, 0.7, 1.0, 1.3, 1.8]
STEPS = [(jitter.brightness, 0), (jitter.contrast, 1), (jitter.saturation, 2)]

on_images = pytest.mark.parametrize(("kind", "size"), IMAGES)


def one_step(image, step, factor):
    """torchvision's image after one step of the jitter."""
    return jitter.reference(image, [float(k == step) for k in range(4)], [factor] * 4, (step,))


@on_images
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(("kernel", "step"), STEPS)
def test_brightness_contrast_saturation(kind, size, factor, kernel, step):
    image = sample_image(kind, size)
    expected = one_step(image, step, factor)
    kernel(image, factor)
    assert np.array_equal(image, expected)


@on_images
@pytest.mark.parametrize("factor", [-0.5, -0.2, -0.003, 0.0, 0.1, 0.33, 0.5])
def test_hue(kind, size, factor):
    image = sample_image(kind, size)
    expected = one_step(image, jitter.HUE, factor)
    jitter.hue(image, factor)
    assert np.array_equal(image, expected)


def test_hue_of_every_color():
    """All 256 ** 3 colors, in pieces: a sample of colors could miss how PIL rounds the hue."""
    green, blue = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    for red in range(256):
        image = np.stack([np.full_like(green, red), green, blue], axis=-1)
        expected = one_step(image, jitter.HUE, 0.1)
        jitter.hue(image, 0.1)
        assert np.array_equal(image, expected)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_whole_jitter_in_every_order(order):
    """Every step equals PIL's, because the next step would enlarge a difference."""
    image = sample_image("photograph", 224)
    strengths, factors = (0.8, 0.8, 0.8, 0.2), (1.3, 0.7, 1.5, -0.13)
    expected = jitter.reference(image, strengths, factors, order)
    jitter.jitter(image, strengths, factors, order)
    assert np.array_equal(image, expected)


def test_a_step_of_no_strength_is_left_out():
    image = sample_image("noise", 32)
    before = image.copy()
    jitter.jitter(image, (0.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.5, 0.5), (3, 2, 1, 0))
    assert np.array_equal(image, before)


@on_images
@pytest.mark.parametrize(("kernel", "reference"), [(gray.gray, gray.reference), (flip.flip, flip.reference)])
def test_gray_and_flip(kind, size, kernel, reference):
    image = sample_image(kind, size)
    expected = reference(image)
    kernel(image)
    assert np.array_equal(image, expected)


@on_images
@pytest.mark.parametrize("threshold", [0, 1, 128, 255, 256])
def test_solarize(kind, size, threshold):
    image = sample_image(kind, size)
    expected = solarize.reference(image, threshold)
    solarize.solarize(image, threshold)
    assert np.array_equal(image, expected)


@on_images
@pytest.mark.parametrize(
    ("kernel", "sigma"), [(3, 0.1), (3, 2.0), (9, 3.0), (23, 0.1), (23, 0.5), (23, 1.0), (23, 2.0)]
)
def test_blur(kind, size, kernel, sigma):
    image = sample_image(kind, size)
    expected = blur.reference(image, kernel, sigma)
    blur.blur(image, kernel, sigma, np.zeros(blur.scratch_bytes(size, kernel), np.uint8))
    assert worst(image, expected) <= 1


@pytest.mark.parametrize("size", [5, 7, 33])
def test_odd_sizes(size):
    """The width is not a multiple of a vector's. Nothing is written past the end."""
    room = np.random.default_rng(1).integers(0, 256, size * size * 3 + 64, np.uint8)
    image, after = room[: size * size * 3].reshape(size, size, 3), room[size * size * 3 :].copy()
    expected = jitter.reference(image.copy(), (1, 1, 1, 1), (1.2, 0.8, 0.6, 0.1), (0, 1, 2, 3))
    jitter.jitter(image, (1, 1, 1, 1), (1.2, 0.8, 0.6, 0.1), (0, 1, 2, 3))
    assert np.array_equal(image, expected)
    expected = blur.reference(image.copy(), 5, 1.0)
    blur.blur(image, 5, 1.0, np.zeros(blur.scratch_bytes(size, 5), np.uint8))
    assert worst(image, expected) <= 1
    assert np.array_equal(room[size * size * 3 :], after)
