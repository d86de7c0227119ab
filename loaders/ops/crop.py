"""Where a view is cut: the random resized crop's box, the evaluation's resize and center crop, a crop with padding."""

import math

from twoview.loaders import rng
from twoview.loaders.kernels import kernel

STREAM = 0
TRIES = 10


@kernel
def draw(height, width, scale_min, scale_max, ratio_min, ratio_max, seed, epoch, sample, view):
    """(top, left, height, width) of a random crop in pixels, as `RandomResizedCrop.get_params` of torchvision draws it.

    The share of the area is uniform, the aspect ratio (width / height) log-uniform, the position uniform among those
    that fit. After ten boxes that do not fit: the largest centered box whose aspect ratio is in range.
    """
    log_min, log_max = math.log(ratio_min), math.log(ratio_max)
    for attempt in range(TRIES):
        first = 4 * attempt
        share = scale_min + (scale_max - scale_min) * rng.uniform(seed, epoch, sample, view, STREAM, first)
        log_ratio = log_min + (log_max - log_min) * rng.uniform(seed, epoch, sample, view, STREAM, first + 1)
        area, ratio = share * (height * width), math.exp(log_ratio)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int((height - h + 1) * rng.uniform(seed, epoch, sample, view, STREAM, first + 2))
            left = int((width - w + 1) * rng.uniform(seed, epoch, sample, view, STREAM, first + 3))
            return top, left, h, w
    return fallback(height, width, ratio_min, ratio_max)


@kernel
def fallback(height, width, ratio_min, ratio_max):
    """(top, left, height, width) of the largest centered box with an aspect ratio in [ratio_min, ratio_max]."""
    w, h = width, height
    if width < ratio_min * height:
        h = max(1, round(width / ratio_min))
    elif width > ratio_max * height:
        w = max(1, round(height * ratio_max))
    return (height - h) // 2, (width - w) // 2, h, w


@kernel
def resized(height, width, resize):
    """(height, width) of the whole image once its shorter side is `resize` pixels, as by torchvision's `Resize`."""
    if height < width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


@kernel
def center(height, width, resize, size):
    """(full height, full width, top, left): the whole image's size once its shorter side is `resize` pixels, and the
    corner of the centered (size, size) box in it. As torchvision's `Resize(resize)` and `CenterCrop(size)`, for a
    resize of at least size.
    """
    full_height, full_width = resized(height, width, resize)
    return full_height, full_width, round((full_height - size) / 2), round((full_width - size) / 2)


@kernel
def padded(height, width, resize, size, padding, seed, epoch, sample, view):
    """(full height, full width, top, left): the whole image's size once its shorter side is `resize` pixels, and the
    corner of a random (size, size) box in it, uniform among those that lie in the image with `padding` pixels more on
    each side. As torchvision's `Resize(resize)`, `RandomCrop(size, padding)`; resize + 2 * padding >= size.
    """
    full_height, full_width = resized(height, width, resize)
    top = int((full_height + 2 * padding - size + 1) * rng.uniform(seed, epoch, sample, view, STREAM, 0)) - padding
    left = int((full_width + 2 * padding - size + 1) * rng.uniform(seed, epoch, sample, view, STREAM, 1)) - padding
    return full_height, full_width, top, left


def twin(height, width, scale, ratio):
    """(top, left, height, width) by torchvision, drawn from torch's global generator."""
    import torch
    from torchvision.transforms import RandomResizedCrop

    return RandomResizedCrop.get_params(torch.empty(3, height, width), list(scale), list(ratio))


def center_twin(image, resize, size, bicubic=False):
    """The evaluation's view of a uint8 (H, W, 3) image by torchvision on PIL images."""
    import numpy as np
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    return np.asarray(F.center_crop(F.resize(Image.fromarray(image), resize, mode), size))


def padded_twin(image, resize, size, padding, top, left, bicubic=False):
    """The crop with padding of a uint8 (H, W, 3) image by torchvision on PIL images; top, left as from `padded`."""
    import numpy as np
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    whole = F.pad(F.resize(Image.fromarray(image), resize, mode), [padding])
    return np.asarray(F.crop(whole, top + padding, left + padding, size, size))
