"""Grey: three equal channels of PIL's luma, (19595 R + 38470 G + 7471 B + 0x8000) >> 16. It vectorises, on planes."""

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.planes import BLOCK, join, split


@kernel
def draw(p, seed, epoch, sample, view):
    """Whether to turn grey, True with probability p."""
    return rng.uniform(seed, epoch, sample, view, rng.GRAY, 0) < p


@kernel
def luma(r, g, b):
    """float32: PIL's `L` of one pixel of float32 levels. All sums are below 2 ** 24, and so exact."""
    weighted = np.float32(19595.0) * r + np.float32(38470.0) * g + np.float32(7471.0) * b + np.float32(32768.0)
    return np.trunc(weighted * np.float32(1.0 / 65536.0))


@kernel
def gray(image):
    """Turn a uint8 (H, W, 3) image grey, in place."""
    pixels = image.reshape(-1)
    planes = np.empty((3, BLOCK), np.float32)
    r, g, b = planes[0], planes[1], planes[2]
    for at in range(0, pixels.size, 3 * BLOCK):
        count = min(BLOCK, (pixels.size - at) // 3)
        split(r, g, b, pixels, at, count)
        for i in range(count):
            r[i] = luma(r[i], g[i], b[i])
        join(r, r, r, pixels, at, count)


def twin(image):
    """The same by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.rgb_to_grayscale(Image.fromarray(image), num_output_channels=3))
