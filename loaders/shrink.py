"""Shrinks the images of a dataset to a maximum size, once, when its beton file (FFCV's format) is written."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from twoview.loaders.datasets import Samples
from twoview.loaders.images import check_jpeg, naming, open_image, smaller


def shrunk(samples: Samples, max_resolution: int, quality: int) -> Samples:
    """Return the same samples, with no side of an image longer than `max_resolution` pixels.

    Images that are small enough keep their bytes. Larger ones are resized by PIL, antialiased bicubic, with the aspect
    ratio kept to the pixel. A JPEG becomes a JPEG of `quality` (1 to 95, PIL's scale), and raw pixels stay raw pixels.
    Raises ValueError for a resolution or quality out of range. Reading an image from the result raises ValueError,
    naming the image, if it is damaged or PIL cannot resize it.
    """
    if not 1 <= max_resolution < 1 << 16:
        raise ValueError(f"--max-resolution must be 1 to 65,535 pixels, got {max_resolution}")
    if not 1 <= quality <= 95:
        raise ValueError(f"--quality must be 1 to 95, got {quality}")

    def image(index: int) -> np.ndarray | bytes:
        name = samples.name(index)
        content = samples.large(index, max_resolution) if samples.large else samples.image(index)
        opened = open_image(content, name) if isinstance(content, bytes) else Image.fromarray(content)
        with opened:
            size = smaller(opened.size, max_resolution)
            if size == opened.size:
                return content
            if isinstance(content, bytes) and not samples.large:  # `large` has already checked it
                check_jpeg(content, name)
            with naming(name):
                small = opened.resize(size, Image.Resampling.BICUBIC)
            if not isinstance(content, bytes):
                return np.asarray(small)
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=quality)
            return buffer.getvalue()

    return replace(samples, image=image, large=None)
