"""Where a view is cut from an image: random resized crop, resize with center crop (evaluation), crop with padding."""

import math

from twoview.loaders import rng
from twoview.loaders.kernels import kernel

STREAM = 0  # the crop's number in the random number generator (`rng.py`)
TRIES = 10  # boxes that are drawn before `fallback` is taken, as in torchvision


@kernel
def draw(height, width, scale_min, scale_max, ratio_min, ratio_max, seed, epoch, sample, view):
    """Return (top, left, height, width) of a random crop in pixels, as torchvision's `RandomResizedCrop.get_params`.

    The crop's share of the image area is uniform in [scale_min, scale_max], its aspect ratio (width / height)
    log-uniform in [ratio_min, ratio_max], its position uniform among those that fit. If ten boxes in turn do not fit,
    the result is the largest centered box whose aspect ratio is in range.
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
    """Return (top, left, height, width) of the largest centered box with an aspect ratio in [ratio_min, ratio_max]."""
    w, h = width, height
    if width < ratio_min * height:
        h = max(1, round(width / ratio_min))
    elif width > ratio_max * height:
        w = max(1, round(height * ratio_max))
    return (height - h) // 2, (width - w) // 2, h, w


@kernel
def resized(height, width, resize):
    """Return (height, width) once the shorter side is resized to `resize` pixels, as by torchvision's `Resize`."""
    if height < width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


@kernel
def center(height, width, resize, size):
    """Return (full height, full width, top, left) of torchvision's `Resize(resize)` followed by `CenterCrop(size)`.

    Full height and width are the image's size once its shorter side is `resize` pixels; (top, left) is the corner of
    the centered (size, size) box in it. resize must be at least size.
    """
    full_height, full_width = resized(height, width, resize)
    return full_height, full_width, round((full_height - size) / 2), round((full_width - size) / 2)


@kernel
def padded(height, width, resize, size, padding, seed, epoch, sample, view):
    """Return (full height, full width, top, left) of torchvision's `Resize(resize)` and `RandomCrop(size, padding)`.

    Full height and width are the image's size once its shorter side is `resize` pixels; (top, left) is the corner of a
    random (size, size) box in it, uniform among those inside the image with `padding` more pixels on each side. A
    coordinate is negative if the box begins in the padding. resize + 2 * padding must be at least size.
    """
    full_height, full_width = resized(height, width, resize)
    top = int((full_height + 2 * padding - size + 1) * rng.uniform(seed, epoch, sample, view, STREAM, 0)) - padding
    left = int((full_width + 2 * padding - size + 1) * rng.uniform(seed, epoch, sample, view, STREAM, 1)) - padding
    return full_height, full_width, top, left


def reference(height, width, scale, ratio):
    """Return (top, left, height, width) of a random crop as torchvision draws it from torch's global generator."""
    import torch
    from torchvision.transforms import RandomResizedCrop

    return RandomResizedCrop.get_params(torch.empty(3, height, width), list(scale), list(ratio))


def center_reference(image, resize, size, bicubic=False):
    """Return a uint8 (H, W, 3) image after torchvision's `Resize` and `CenterCrop` on PIL images."""
    import numpy as np
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    return np.asarray(F.center_crop(F.resize(Image.fromarray(image), resize, mode), size))


def padded_reference(image, resize, size, padding, top, left, bicubic=False):
    """Return a uint8 (H, W, 3) image after torchvision's `Resize`, padding and crop on PIL images.

    top, left: from `padded`.
    """
    import numpy as np
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    whole = F.pad(F.resize(Image.fromarray(image), resize, mode), [padding])
    return np.asarray(F.crop(whole, top + padding, left + padding, size, size))
