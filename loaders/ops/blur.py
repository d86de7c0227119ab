"""Gaussian blur, separable, reflect padding, the weights of torchvision's `gaussian_blur`.

The taps at the ends of the kernel that together cannot move a value by an eighth of a level are left out: at the sigma
of at most 2 that SimCLR's views draw, a kernel of 23 taps shrinks to 15 or fewer. Along the rows first, rounded to
8 bits, then along the columns; the result is within one level of torchvision's two-dimensional sum.

Both directions are vectors of 32 bytes (`taps.py`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.op import Drawn, Key, Op, Pairs, Pictures, after
from twoview.loaders.ops.taps import BITS, weigh_images, weigh_row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STREAM = 4
SIGMA_MIN, SIGMA_MAX, KERNEL, P = 0, 1, 2, 3  # the table's columns
SIGMAS = (0.1, 0.5, 1.0, 2.0)  # on the conformance card


class Blur(NamedTuple):
    """Gaussian blur: sigma uniform in [sigma_min, sigma_max] pixels, `kernel` (odd) taps a side, with probability p."""

    sigma_min: float
    sigma_max: float
    kernel: int
    p: float


def check(settings: Blur, size: int) -> None:
    """ValueError for a blur that a view of this size cannot have."""
    if settings.kernel % 2 != 1 or not 0 < settings.kernel // 2 < size:
        raise ValueError("a blur's kernel must be odd, at least 3 and less than twice the size")
    if not 0 < settings.sigma_min <= settings.sigma_max:
        raise ValueError("a blur's sigmas must be positive and in ascending order")


@kernel
def draw(sigma_min, sigma_max, p, seed, epoch, sample, view):
    """(whether to blur, True with probability p; sigma in pixels, uniform)."""
    sigma = sigma_min + (sigma_max - sigma_min) * rng.uniform(seed, epoch, sample, view, STREAM, 1)
    return rng.uniform(seed, epoch, sample, view, STREAM, 0) < p, sigma


@kernel
def weights(kernel, sigma):
    """int32 (2 r + 1,): the taps that matter of a kernel of `kernel` taps, summing to 1 << 22."""
    reach = kernel // 2
    exact = np.empty(reach + 1, np.float64)
    total = 0.0
    for k in range(reach + 1):
        exact[k] = math.exp(-0.5 * (k / sigma) ** 2)
        total += exact[k] if k == 0 else 2.0 * exact[k]
    radius, dropped = reach, 0.0
    while radius > 0 and (dropped + 2.0 * exact[radius]) * 255.0 < total / 8.0:
        dropped += 2.0 * exact[radius]
        radius -= 1
    taps = np.empty(2 * radius + 1, np.int32)
    left = 1 << BITS
    for k in range(1, radius + 1):
        weight = round(exact[k] / (total - dropped) * (1 << BITS))
        taps[radius - k] = weight
        taps[radius + k] = weight
        left -= 2 * weight
    taps[radius] = left
    return taps


@kernel
def scratch_bytes(size, kernel):
    """Bytes of scratch that `blur` needs for a (size, size, 3) image."""
    return (size + kernel) * (size + 1) * 3


@kernel
def _copy(out, to, source, at, count):
    """Copy bytes; a slice assignment would look for overlap first, which costs as much as the sums."""
    target, origin = out[to : to + count], source[at : at + count]
    for j in range(count):
        target[j] = origin[j]


@kernel
def blur(image, kernel, sigma, scratch):
    """Blur a uint8 (H, W, 3) image in place; `kernel` taps a side, odd, kernel // 2 < min(H, W).

    scratch: uint8 1-D, at least `scratch_bytes(max(H, W), kernel)`.
    """
    height, width, _ = image.shape
    taps = weights(kernel, sigma)
    count = taps.size
    radius = count // 2
    flat, pitch = image.reshape(-1), width * 3
    padded = scratch[: pitch + 6 * radius]
    filtered = scratch[padded.size : padded.size + (height + 2 * radius) * pitch]

    for y in range(height):
        _copy(padded, 3 * radius, flat, y * pitch, pitch)
        for k in range(1, radius + 1):
            for c in range(3):
                padded[3 * (radius - k) + c] = padded[3 * (radius + k) + c]
                padded[3 * (radius + width - 1 + k) + c] = padded[3 * (radius + width - 1 - k) + c]
        weigh_row(filtered, (radius + y) * pitch, padded, 0, 3, taps, 0, count, pitch)
    for k in range(1, radius + 1):
        _copy(filtered, (radius - k) * pitch, filtered, (radius + k) * pitch, pitch)
        _copy(filtered, (radius + height - 1 + k) * pitch, filtered, (radius + height - 1 - k) * pitch, pitch)
    for y in range(height):
        weigh_row(flat, y * pitch, filtered, y * pitch, pitch, taps, 0, count, pitch)


@kernel(inline="always")
def apply(image, row, scratch, seed, epoch, sample, view):
    """As `Op.apply`."""
    blurred, sigma = draw(row[SIGMA_MIN], row[SIGMA_MAX], row[P], seed, epoch, sample, view)
    if blurred:
        blur(image, int(row[KERNEL]), sigma, scratch)


@kernel(inline="always")
def drawn(to, row, size, seed, epoch, sample, view):
    """As `Op.drawn`: the taps from the middle one outwards, and zeros."""
    to[0] = 1 << BITS
    if row[P] > 0:
        blurred, sigma = draw(row[SIGMA_MIN], row[SIGMA_MAX], row[P], seed, epoch, sample, view)
        if blurred:
            taps = weights(int(row[KERNEL]), sigma)
            middle = taps.size // 2
            to[: middle + 1] = taps[middle:]


def _columns(settings: Blur) -> int:
    """The middle tap and those on one side of it, of the widest blur that may be drawn."""
    return 1 + (weights(settings.kernel, settings.sigma_max).size // 2 if settings.p > 0 else 0)


def _on_device(settings: Sequence[Blur | None], device: "torch.device") -> Callable[..., "Tensor"]:
    import torch

    def blurred(image: "Tensor", taps: "Tensor") -> "Tensor":
        """Mirrored at the outermost pixels."""
        radius = taps.shape[1] - 1
        each, reach = torch.arange(len(image), device=device), torch.arange(-radius, radius + 1, device=device)
        weights = taps[:, None, reach.abs()]
        for axis in (2, 1):
            last = image.shape[axis] - 1
            at = torch.arange(last + 1, device=device)[:, None] + reach
            image = weigh_images(image, each, axis, (last - (last - at.abs()).abs())[None], weights)
        return image

    return blurred


def twin(image, kernel, sigma):
    """The same by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.gaussian_blur(Image.fromarray(image), [kernel, kernel], [sigma, sigma]))


def smoothed(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """A uint8 (H, W, 3) image filtered by int32 taps along its rows, rounded to 8 bits, then along its columns.

    What `blur` does, written to be read; `twin` is not equal to it.
    """
    import torch

    levels, weights = torch.tensor(image, dtype=torch.int64), torch.tensor(taps, dtype=torch.int64)
    for direction in (1, 0):
        levels = _filtered(levels, weights, direction)
    return levels.byte().numpy()


def _filtered(levels: "Tensor", weights: "Tensor", direction: int) -> "Tensor":
    """The rounded sums of neighbors along one direction, the image mirrored at its outermost pixels."""
    import torch

    last, radius = levels.shape[direction] - 1, len(weights) // 2
    mirrored = last - (last - torch.arange(-radius, last + 1 + radius).abs()).abs()
    neighbors = levels.index_select(direction, mirrored).unfold(direction, len(weights), 1)
    return (((neighbors * weights).sum(-1) + (1 << (BITS - 1))) >> BITS).clamp(0, 255)


def _twin(image: np.ndarray, settings: Blur, key: Key) -> np.ndarray:
    blurred, sigma = draw(settings.sigma_min, settings.sigma_max, settings.p, *key)
    return smoothed(image, weights(settings.kernel, sigma)) if blurred else image


def _torchvision(settings: Blur) -> Any:
    from torchvision.transforms import GaussianBlur, RandomApply

    return RandomApply([GaussianBlur(settings.kernel, (settings.sigma_min, settings.sigma_max))], settings.p)


def _pixels(pictures: Pictures) -> Pairs:
    """The kernel of SimCLR's ImageNet views at 224 pixels, at any size."""
    for picture in pictures:
        scratch = np.empty(scratch_bytes(len(picture), 23), np.uint8)
        for sigma in SIGMAS:
            yield after(blur, picture, 23, sigma, scratch), twin(picture, 23, sigma)


def _draws(count: int, seed: int) -> Iterator[Drawn]:
    from torchvision.transforms import GaussianBlur

    ours = [draw(0.1, 2.0, 0.5, seed, 0, sample, 0)[1] for sample in range(count)]
    yield Drawn("blur sigma", "0.1 .. 2 pixels", ours, [GaussianBlur.get_params(0.1, 2.0) for _ in range(count)])


BLUR = Op(
    name="blur",
    stream=STREAM,
    settings=Blur,
    check=check,
    apply=apply,
    scratch=lambda settings, size: scratch_bytes(size, settings.kernel),
    twin=_twin,
    drawn=drawn,
    columns=_columns,
    on_device=_on_device,
    torchvision=_torchvision,
    pixels={"blur": (_pixels, 1)},
    applied=lambda p, *key: draw(0.1, 2.0, p, *key)[0],
    draws=_draws,
    steps={"blur": lambda settings: settings},
)
