"""Colour jitter: brightness, contrast, saturation and hue in a random order, as torchvision does it on PIL images.

Each step rounds to 8 bits before the next, with PIL's own arithmetic, and the result equals PIL's bit for bit:
`Image.blend` truncates in float32, contrast blends with the rounded mean of the grey image at that point, hue goes
through PIL's 8-bit HSV.

All loops vectorise (8 lanes under AVX2): they have no branches, and their numbers are 32 bits wide. Brightness and
contrast's blend run over the interleaved bytes, the rest over planes (`planes.py`). On interleaved pixels, or with one
64-bit number in the loop, hue is six times slower.
"""

import numpy as np
from numba import njit

from loaders import rng
from loaders.ops.gray import luma
from loaders.ops.planes import BLOCK, join, split

BRIGHTNESS = 0
CONTRAST = 1
SATURATION = 2
HUE = 3


@njit(cache=True, nogil=True)
def draw(brightness, contrast, saturation, hue, p, seed, epoch, sample, view):
    """(whether to jitter, True with probability p; four factors; the order of the four steps).

    As torchvision's `ColorJitter(brightness, contrast, saturation, hue)`: the factors of the first three are uniform in
    [max(0, 1 - strength), 1 + strength], hue's in [-strength, strength] turns; all orders are equally likely.
    """
    factor_b = _between(max(0.0, 1.0 - brightness), 1.0 + brightness, seed, epoch, sample, view, 1)
    factor_c = _between(max(0.0, 1.0 - contrast), 1.0 + contrast, seed, epoch, sample, view, 2)
    factor_s = _between(max(0.0, 1.0 - saturation), 1.0 + saturation, seed, epoch, sample, view, 3)
    factor_h = _between(-hue, hue, seed, epoch, sample, view, 4)
    order = np.arange(4)
    for last in range(3, 0, -1):
        other = int((last + 1) * rng.uniform(seed, epoch, sample, view, rng.JITTER, 4 + last))
        order[last], order[other] = order[other], order[last]
    apply = rng.uniform(seed, epoch, sample, view, rng.JITTER, 0) < p
    return apply, (factor_b, factor_c, factor_s, factor_h), (order[0], order[1], order[2], order[3])


@njit(cache=True, nogil=True)
def _between(low, high, seed, epoch, sample, view, draw):
    return low + (high - low) * rng.uniform(seed, epoch, sample, view, rng.JITTER, draw)


@njit(cache=True, nogil=True)
def _blend(base, value, factor):
    """PIL's `Image.blend` of two levels: base + factor * (value - base) in float32, clipped, truncated."""
    level = np.float32(base) + factor * (np.float32(value) - np.float32(base))
    return np.uint8(np.int32(min(max(level, np.float32(0.0)), np.float32(255.0))))


@njit(cache=True, nogil=True)
def brightness(image, factor):
    """Blend a uint8 (H, W, 3) image with black, in place; factor 1 changes nothing."""
    values = image.reshape(-1)
    share = np.float32(factor)
    for i in range(values.size):
        values[i] = _blend(np.int32(0), values[i], share)


@njit(cache=True, nogil=True)
def contrast(image, factor):
    """Blend a uint8 (H, W, 3) image with its mean grey, in place; factor 1 changes nothing."""
    values = image.reshape(-1)
    r, g, b = np.empty((3, BLOCK), np.uint8)
    total = 0
    for at in range(0, values.size, 3 * BLOCK):
        count = min(BLOCK, (values.size - at) // 3)
        split(r, g, b, values, at, count)
        for i in range(count):
            total += int(luma(r[i], g[i], b[i]))
    mean = int(total / (values.size // 3) + 0.5)
    share = np.float32(factor)
    for i in range(values.size):
        values[i] = _blend(mean, values[i], share)


@njit(cache=True, nogil=True)
def saturation(image, factor):
    """Blend a uint8 (H, W, 3) image with its own grey, in place; factor 1 changes nothing."""
    pixels = image.reshape(-1)
    share = np.float32(factor)
    r, g, b = np.empty((3, BLOCK), np.uint8)
    for at in range(0, pixels.size, 3 * BLOCK):
        count = min(BLOCK, (pixels.size - at) // 3)
        split(r, g, b, pixels, at, count)
        for i in range(count):
            grey = luma(r[i], g[i], b[i])
            r[i], g[i], b[i] = _blend(grey, r[i], share), _blend(grey, g[i], share), _blend(grey, b[i], share)
        join(r, g, b, pixels, at, count)


@njit(cache=True, nogil=True)
def hue(image, factor):
    """Turn the hue of a uint8 (H, W, 3) image by `factor` turns in [-0.5, 0.5], in place."""
    pixels = image.reshape(-1)
    shift = np.int32(factor * 255)
    r, g, b = np.empty((3, BLOCK), np.uint8)
    for at in range(0, pixels.size, 3 * BLOCK):
        count = min(BLOCK, (pixels.size - at) // 3)
        split(r, g, b, pixels, at, count)
        _turn(r, g, b, count, shift)
        join(r, g, b, pixels, at, count)


@njit(cache=True, nogil=True, error_model="numpy")
def _turn(reds, greens, blues, count, shift):
    """Add `shift` to the 8-bit hue of `count` pixels: PIL's RGB to HSV and back.

    A hue is base + p - q sixths of a turn, where p and q are how far two channels are below the brightest, in shares of
    the chroma: one of the two is 1 unless both are 0. PIL adds in float64 and rounds to float32; adding the 1 first
    is the same in float32 (checked for all chromas and differences), with twice the lanes.
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    for i in range(count):
        r, g, b = np.float32(reds[i]), np.float32(greens[i]), np.float32(blues[i])
        value = max(r, max(g, b))
        chroma = value - min(r, min(g, b))
        share = max(chroma, one)
        from_r, from_g, from_b = (value - r) / share, (value - g) / share, (value - b) / share
        p = from_b if r == value else (from_r if g == value else from_g)
        q = from_g if r == value else (from_b if g == value else from_r)
        base = zero if r == value else (np.float32(2.0) if g == value else np.float32(4.0))
        sixths = (base + p) - q if p == one else (base - q) + p
        turns = sixths / np.float32(6.0)
        turns = turns + one if turns < zero else turns
        hue = (np.int32(turns * np.float32(255.0)) + shift) & np.int32(255)
        strength = np.float32(np.int32(chroma / max(value, one) * np.float32(255.0)))

        turned = np.float32(hue) * np.float32(6.0)
        reds[i] = _shade(value, strength, np.float32(510.0) - abs(turned - np.float32(765.0)))
        greens[i] = _shade(value, strength, abs(turned - np.float32(510.0)) - np.float32(255.0))
        blues[i] = _shade(value, strength, abs(turned - np.float32(1020.0)) - np.float32(255.0))


@njit(cache=True, nogil=True)
def _shade(value, strength, absence):
    """A channel of an 8-bit HSV colour: value * (1 - strength / 255 * absence / 255), rounded.

    `absence`, clipped to 0 .. 255, is how far the hue is from this channel. All are whole numbers below 2 ** 24, and so
    exact in float32, up to the division.
    """
    share = min(max(absence, np.float32(0.0)), np.float32(255.0))
    scaled = value * (np.float32(65025.0) - strength * share)
    return np.uint8(np.int32(scaled * np.float32(1.0 / 65025.0) + np.float32(0.5)))


@njit(cache=True, nogil=True)
def jitter(image, strengths, factors, order):
    """The four steps on a uint8 (H, W, 3) image, in place, in the given order; a step of strength 0 is left out.

    strengths, factors: (brightness, contrast, saturation, hue). order: a permutation of 0 .. 3.
    """
    for k in range(4):
        step = order[k]
        if strengths[step] > 0:
            if step == BRIGHTNESS:
                brightness(image, factors[BRIGHTNESS])
            elif step == CONTRAST:
                contrast(image, factors[CONTRAST])
            elif step == SATURATION:
                saturation(image, factors[SATURATION])
            else:
                hue(image, factors[HUE])


def twin(image, strengths, factors, order):
    """The same by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    picture = Image.fromarray(image)
    for step in order:
        if strengths[step] > 0:
            picture = steps[step](picture, factors[step])
    return np.asarray(picture)
