"""Shrinks the images of a dataset to a maximum size, once, when its beton file (FFCV's format) is written."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from twoview.loaders.datasets import Samples
from twoview.loaders.images import check_jpeg, naming, open_image, smaller


def shrunk(samples: Samples, max_resolution: int, quality: int) -> Samples:
    """Return the same samples, with images of which no side is longer than `max_resolution` pixels.

    Images that are small enough keep their bytes. Larger ones are resized by PIL, antialiased bicubic, with the aspect
    ratio kept to the pixel. A JPEG becomes a JPEG of `quality` (1 to 95, PIL's scale), and raw pixels stay raw pixels.
    Raises ValueError for a resolution or quality out of range. The result raises ValueError, naming the image, for one
    that is damaged or that PIL cannot resize.
    """
    if not 1 <= max_resolution < 1 << 16:
        raise ValueError(f"--max-resolution must be 1 to 65,535 pixels, got {max_resolution}")
    if not 1 <= quality <= 95:
        raise ValueError(f"--quality must be 1 to 95, got {quality}")

    def image(index: int) -> np.ndarray | bytes:
        name = samples.name(index)
        content = samples.large(index, max_resolution) if samples.large else samples.image(index)
        picture = open_image(content, name) if isinstance(content, bytes) else Image.fromarray(content)
        with picture:
            size = smaller(picture.size, max_resolution)
            if size == picture.size:
                return content
            if isinstance(content, bytes) and not samples.large:  # `large` has already checked it
                check_jpeg(content, name)
            with naming(name):
                small = picture.resize(size, Image.Resampling.BICUBIC)
            if not isinstance(content, bytes):
                return np.asarray(small)
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=quality)
            return buffer.getvalue()

    return replace(samples, image=image, large=None)
