"""Horizontal flip. The loader flips as part of the resize, at no cost; the kernel here flips a finished image."""

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel

STREAM = 1  # the flip's number in the random number generator (`rng.py`)


@kernel
def draw(p, seed, epoch, sample, view):
    """Return whether to flip: True with probability p."""
    return rng.uniform(seed, epoch, sample, view, STREAM, 0) < p


@kernel
def flip(image):
    """Mirror a uint8 (H, W, 3) image left to right, in place."""
    height, width, _ = image.shape
    for y in range(height):
        for x in range(width // 2):
            for c in range(3):
                image[y, x, c], image[y, width - 1 - x, c] = image[y, width - 1 - x, c], image[y, x, c]


def reference(image):
    """Return a uint8 (H, W, 3) image flipped by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.hflip(Image.fromarray(image)))
