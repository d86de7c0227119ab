"""Solarise: values at or above the threshold are inverted. The loop vectorises."""

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel


@kernel
def draw(p, seed, epoch, sample, view):
    """Whether to solarise, True with probability p."""
    return rng.uniform(seed, epoch, sample, view, rng.SOLARIZE, 0) < p


@kernel
def solarize(image, threshold):
    """Replace x by 255 - x wherever x >= threshold, in a uint8 (H, W, 3) image, in place."""
    values = image.reshape(-1)
    level = np.int32(threshold)
    for i in range(values.size):
        value = values[i]
        values[i] = np.uint8(255 - value) if np.int32(value) >= level else value


def twin(image, threshold):
    """The same by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.solarize(Image.fromarray(image), threshold))
