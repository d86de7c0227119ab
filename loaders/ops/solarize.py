"""Solarize: values at or above the threshold are inverted. The loop vectorises."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.op import Key, Op, Pairs, Pictures, after

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STREAM = 5
THRESHOLD, P = 0, 1  # the table's columns
THRESHOLDS = (0, 1, 128, 255, 256)  # on the conformance card


class Solarize(NamedTuple):
    """Inversion of all values at or above the threshold (0 to 255), applied with probability p."""

    threshold: int
    p: float


@kernel
def draw(p, seed, epoch, sample, view):
    """Whether to solarize, True with probability p."""
    return rng.uniform(seed, epoch, sample, view, STREAM, 0) < p


@kernel
def solarize(image, threshold):
    """Replace x by 255 - x wherever x >= threshold, in a uint8 (H, W, 3) image, in place."""
    values = image.reshape(-1)
    level = np.int32(threshold)
    for i in range(values.size):
        value = values[i]
        values[i] = np.uint8(255 - value) if np.int32(value) >= level else value


@kernel(inline="always")
def apply(image, row, scratch, seed, epoch, sample, view):
    """As `Op.apply`."""
    if draw(row[P], seed, epoch, sample, view):
        solarize(image, row[THRESHOLD])


@kernel(inline="always")
def drawn(to, row, size, seed, epoch, sample, view):
    """As `Op.drawn`: the threshold, beyond all levels where there is nothing to invert."""
    to[0] = row[THRESHOLD] if draw(row[P], seed, epoch, sample, view) else 256


def _on_device(settings: Sequence[Solarize | None], device: "torch.device") -> Callable[..., "Tensor"]:
    def solarized(image: "Tensor", drawn: "Tensor") -> "Tensor":
        return (255 - image).where(image >= drawn[:, 0, None, None, None], image)

    return solarized


def twin(image, threshold):
    """The same by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.solarize(Image.fromarray(image), threshold))


def _twin(image: np.ndarray, settings: Solarize, key: Key) -> np.ndarray:
    return twin(image, settings.threshold) if draw(settings.p, *key) else image


def _torchvision(settings: Solarize) -> Any:
    from torchvision.transforms import RandomSolarize

    return RandomSolarize(settings.threshold, settings.p)


def _pixels(pictures: Pictures) -> Pairs:
    for picture in pictures:
        for threshold in THRESHOLDS:
            yield after(solarize, picture, threshold), twin(picture, threshold)


SOLARIZE = Op(
    name="solarize",
    stream=STREAM,
    settings=Solarize,
    check=lambda settings, size: None,
    apply=apply,
    twin=_twin,
    drawn=drawn,
    columns=lambda settings: 1,
    on_device=_on_device,
    torchvision=_torchvision,
    pixels={"solarize": (_pixels, 1)},
    applied=lambda p, *key: draw(p, *key),
    steps={"solarize": lambda settings: settings},
)
