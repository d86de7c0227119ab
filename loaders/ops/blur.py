"""Gaussian blur, separable, reflect padding, the weights of torchvision's `gaussian_blur`.

The taps at the ends of the kernel that together cannot move a value by an eighth of a level are left out: at the sigma
of at most 2 that SimCLR's views draw, a kernel of 23 taps shrinks to 15 or fewer. Along the rows first, rounded to
8 bits, then along the columns; the result is within one level of torchvision's two-dimensional sum.

Both directions are vectors of 32 bytes (`taps.py`).
"""

import math

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.taps import BITS, weigh_row


@kernel
def draw(sigma_min, sigma_max, p, seed, epoch, sample, view):
    """(whether to blur, True with probability p; sigma in pixels, uniform)."""
    sigma = sigma_min + (sigma_max - sigma_min) * rng.uniform(seed, epoch, sample, view, rng.BLUR, 1)
    return rng.uniform(seed, epoch, sample, view, rng.BLUR, 0) < p, sigma


@kernel
def weights(kernel, sigma):
    """int32 (2 r + 1,): the taps that matter of a kernel of `kernel` taps, summing to 1 << 22."""
    reach = kernel // 2
    exact = np.empty(reach + 1, np.float64)
    total = 0.0
    for k in range(reach + 1):
        exact[k] = math.exp(-0.5 * (k / sigma) ** 2)
        total += exact[k] if k == 0 else 2.0 * exact[k]
    radius, dropped = reach, 0.0
    while radius > 0 and (dropped + 2.0 * exact[radius]) * 255.0 < total / 8.0:
        dropped += 2.0 * exact[radius]
        radius -= 1
    taps = np.empty(2 * radius + 1, np.int32)
    left = 1 << BITS
    for k in range(1, radius + 1):
        weight = round(exact[k] / (total - dropped) * (1 << BITS))
        taps[radius - k] = weight
        taps[radius + k] = weight
        left -= 2 * weight
    taps[radius] = left
    return taps


@kernel
def scratch_bytes(size, kernel):
    """Bytes of scratch that `blur` needs for a (size, size, 3) image."""
    return (size + kernel) * (size + 1) * 3


@kernel
def _copy(out, to, source, at, count):
    """Copy bytes; a slice assignment would look for overlap first, which costs as much as the sums."""
    target, origin = out[to : to + count], source[at : at + count]
    for j in range(count):
        target[j] = origin[j]


@kernel
def blur(image, kernel, sigma, scratch):
    """Blur a uint8 (H, W, 3) image in place; `kernel` taps a side, odd, kernel // 2 < min(H, W).

    scratch: uint8 1-D, at least `scratch_bytes(max(H, W), kernel)`.
    """
    height, width, _ = image.shape
    taps = weights(kernel, sigma)
    count = taps.size
    radius = count // 2
    flat, pitch = image.reshape(-1), width * 3
    padded = scratch[: pitch + 6 * radius]
    filtered = scratch[padded.size : padded.size + (height + 2 * radius) * pitch]

    for y in range(height):
        _copy(padded, 3 * radius, flat, y * pitch, pitch)
        for k in range(1, radius + 1):
            for c in range(3):
                padded[3 * (radius - k) + c] = padded[3 * (radius + k) + c]
                padded[3 * (radius + width - 1 + k) + c] = padded[3 * (radius + width - 1 - k) + c]
        weigh_row(filtered, (radius + y) * pitch, padded, 0, 3, taps, 0, count, pitch)
    for k in range(1, radius + 1):
        _copy(filtered, (radius - k) * pitch, filtered, (radius + k) * pitch, pitch)
        _copy(filtered, (radius + height - 1 + k) * pitch, filtered, (radius + height - 1 - k) * pitch, pitch)
    for y in range(height):
        weigh_row(flat, y * pitch, filtered, y * pitch, pitch, taps, 0, count, pitch)


def twin(image, kernel, sigma):
    """The same by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.gaussian_blur(Image.fromarray(image), [kernel, kernel], [sigma, sigma]))
