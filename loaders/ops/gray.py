"""Grayscale: three equal channels of PIL's luma, (19595 R + 38470 G + 7471 B + 0x8000) >> 16.

The loop runs over separate planes for red, green and blue (`planes.py`), so that LLVM can vectorize it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.op import Images, Key, Op, Pairs, after
from twoview.loaders.ops.planes import BLOCK, join, split

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STREAM = 3  # the op's number in the random number generator (`rng.py`)
P = 0  # the probability's column in the op's part of the view table


@kernel
def draw(p, seed, epoch, sample, view):
    """Return whether to turn the view gray: True with probability p."""
    return rng.uniform(seed, epoch, sample, view, STREAM, 0) < p


@kernel
def luma(r, g, b):
    """Return PIL's luma (mode `L`) of one pixel, as float32; r, g, b: float32 levels.

    All sums are below 2 ** 24, and therefore exact in float32.
    """
    weighted = np.float32(19595.0) * r + np.float32(38470.0) * g + np.float32(7471.0) * b + np.float32(32768.0)
    return np.trunc(weighted * np.float32(1.0 / 65536.0))


@kernel
def gray(image):
    """Turn a uint8 (H, W, 3) image gray, in place."""
    pixels = image.reshape(-1)
    planes = np.empty((3, BLOCK), np.float32)
    r, g, b = planes[0], planes[1], planes[2]
    for at in range(0, pixels.size, 3 * BLOCK):
        count = min(BLOCK, (pixels.size - at) // 3)
        split(r, g, b, pixels, at, count)
        for i in range(count):
            r[i] = luma(r[i], g[i], b[i])
        join(r, r, r, pixels, at, count)


@kernel(inline="always")
def apply(image, row, scratch, seed, epoch, sample, view):
    """Turn the image gray in place if the draw says so; see `Op.apply`."""
    if draw(row[P], seed, epoch, sample, view):
        gray(image)


@kernel(inline="always")
def drawn(to, row, size, seed, epoch, sample, view):
    """Write 1 if the view turns gray, else 0; see `Op.drawn`."""
    to[0] = draw(row[P], seed, epoch, sample, view)


def luma_planes(red: "Tensor", green: "Tensor", blue: "Tensor") -> "Tensor":
    """Return the `luma` of whole planes, float32 (B, H, W)."""
    return ((19595.0 * red + 38470.0 * green + 7471.0 * blue + 32768.0) * 2.0**-16).floor()


def _on_device(settings: Sequence[float], device: "torch.device") -> Callable[..., list["Tensor"]]:
    """Return the graying of a batch on the device; see `Op.on_device`."""

    def turned(planes: list["Tensor"], drawn: "Tensor") -> list["Tensor"]:
        luma, grayed = luma_planes(*planes), drawn[:, 0, None, None] > 0
        return [luma.where(grayed, plane) for plane in planes]

    return turned


def reference(image):
    """Return a uint8 (H, W, 3) image turned gray by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.rgb_to_grayscale(Image.fromarray(image), num_output_channels=3))


def _reference(image: np.ndarray, p: float, key: Key) -> np.ndarray:
    """Return the image after the op, by the reference implementation; see `Op.reference`."""
    return reference(image) if draw(p, *key) else image


def _torchvision(p: float) -> Any:
    from torchvision.transforms import RandomGrayscale

    return RandomGrayscale(p)


def _pixels(images: Images) -> Pairs:
    """Return our gray image and torchvision's, for each image."""
    return ((after(gray, image), reference(image)) for image in images)


GRAY = Op(
    name="gray",
    stream=STREAM,
    settings=float,
    check=lambda p, size: None,
    apply=apply,
    reference=_reference,
    drawn=drawn,
    columns=lambda p: 1,
    on_device=_on_device,
    on_planes=True,
    torchvision=_torchvision,
    pixels={"gray": (_pixels, 1)},
    applied=lambda p, *key: draw(p, *key),
    steps={"gray": lambda p: p},
)
