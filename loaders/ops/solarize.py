"""Solarize: values at or above the threshold are inverted. LLVM vectorizes the loop."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.op import Images, Key, Op, Pairs, after

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STREAM = 5  # the op's number in the random number generator (`rng.py`)
THRESHOLD, P = 0, 1  # columns of the settings in the op's part of the view table
THRESHOLDS = (0, 1, 128, 255, 256)  # compared with torchvision on the conformance card


class Solarize(NamedTuple):
    """Invert all values at or above the threshold (0 to 255), with probability p."""

    threshold: int
    p: float


def check(settings: Solarize, size: int) -> None:
    """Raise ValueError for a threshold that is neither a level nor above all levels."""
    if settings.threshold not in range(257):
        raise ValueError(f"threshold must be a whole number from 0 to 256, got {settings.threshold}")


@kernel
def draw(p, seed, epoch, sample, view):
    """Return whether to solarize: True with probability p."""
    return rng.uniform(seed, epoch, sample, view, STREAM, 0) < p


@kernel
def solarize(image, threshold):
    """Replace every value x >= threshold of a uint8 (H, W, 3) image by 255 - x, in place."""
    values = image.reshape(-1)
    level = np.int32(threshold)
    for i in range(values.size):
        value = values[i]
        values[i] = np.uint8(255 - value) if np.int32(value) >= level else value


@kernel(inline="always")
def apply(image, row, scratch, seed, epoch, sample, view):
    """Solarize the image in place if the draw says so; see `Op.apply`."""
    if draw(row[P], seed, epoch, sample, view):
        solarize(image, row[THRESHOLD])


@kernel(inline="always")
def drawn(to, row, size, seed, epoch, sample, view):
    """Write the threshold, or 256, above all levels, if nothing is to be inverted; see `Op.drawn`."""
    to[0] = row[THRESHOLD] if draw(row[P], seed, epoch, sample, view) else 256


def _on_device(settings: Sequence[Solarize | None], device: "torch.device") -> Callable[..., "Tensor"]:
    """Return the solarization of a batch on the device; see `Op.on_device`."""

    def solarized(image: "Tensor", drawn: "Tensor") -> "Tensor":
        return (255 - image).where(image >= drawn[:, 0, None, None, None], image)

    return solarized


def reference(image, threshold):
    """Return a uint8 (H, W, 3) image solarized by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.solarize(Image.fromarray(image), threshold))


def _reference(image: np.ndarray, settings: Solarize, key: Key) -> np.ndarray:
    """Return the image after the op, by the reference implementation; see `Op.reference`."""
    return reference(image, settings.threshold) if draw(settings.p, *key) else image


def _torchvision(settings: Solarize) -> Any:
    from torchvision.transforms import RandomSolarize

    return RandomSolarize(settings.threshold, settings.p)


def _pixels(images: Images) -> Pairs:
    """Yield our image and torchvision's, for each image and threshold."""
    for image in images:
        for threshold in THRESHOLDS:
            yield after(solarize, image, threshold), reference(image, threshold)


SOLARIZE = Op(
    name="solarize",
    stream=STREAM,
    settings=Solarize,
    check=check,
    apply=apply,
    reference=_reference,
    drawn=drawn,
    columns=lambda settings: 1,
    on_device=_on_device,
    torchvision=_torchvision,
    pixels={"solarize": (_pixels, 1)},
    applied=lambda p, *key: draw(p, *key),
    steps={"solarize": lambda settings: settings},
)
