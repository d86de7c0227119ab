"""Makes the images of a dataset smaller, in pixels or in bytes, when its beton file (FFCV's format) is written."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from twoview.loaders.datasets import Samples
from twoview.loaders.images import check_jpeg, naming, open_image, smaller
from twoview.loaders.storage import SMALL, Storage

LONGEST = 65500  # most pixels per side of a JPEG that libjpeg writes


def prepared(samples: Samples, storage: Storage) -> Samples:
    """Return the same samples, with each image as `storage` says.

    Larger images than `storage.longest` are resized by PIL, antialiased bicubic, with the aspect ratio kept to the
    pixel; JPEGs stay JPEGs. Reading an image from the result raises ValueError, naming the image, if it is damaged or
    PIL cannot resize it.
    """

    def image(index: int) -> np.ndarray | bytes:
        name = samples.name(index)
        content = samples.large(index, storage) if samples.large else samples.image(index)
        if storage.longest is not None:
            # What `large` returns has been checked already.
            content = _resized(content, name, storage.longest, storage.quality, checked=samples.large is not None)
        if isinstance(content, np.ndarray) and storage.compress and content.shape[0] * content.shape[1] > SMALL:
            return _jpeg(Image.fromarray(content), storage.quality, name)
        return content

    return replace(samples, image=image, large=None)


def _resized(content: np.ndarray | bytes, name: str, longest: int, quality: int, checked: bool) -> np.ndarray | bytes:
    """Return an image with no side longer than `longest`; one that is small enough is returned unchanged."""
    with open_image(content, name) if isinstance(content, bytes) else Image.fromarray(content) as opened:
        size = smaller(opened.size, longest)
        if size == opened.size:
            return content
        if isinstance(content, bytes) and not checked:
            check_jpeg(content, name)
        with naming(name):
            small = opened.resize(size, Image.Resampling.BICUBIC)
    return _jpeg(small, quality, name) if isinstance(content, bytes) else np.asarray(small)


def _jpeg(image: Image.Image, quality: int, name: str) -> bytes:
    """Return an image as the bytes of a JPEG. Raises ValueError, naming it, if it is larger than a JPEG can be."""
    if max(image.size) > LONGEST:
        raise ValueError(
            f"{name} must have at most {LONGEST:,} pixels per side to become a JPEG, got {max(image.size):,}"
        )
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
