"""Gaussian blur: separable, with reflect padding and the weights of torchvision's `gaussian_blur`.

Taps at the ends of the kernel are dropped if all of them together cannot change a value by an eighth of a gray level:
at the sigmas of at most 2 pixels that SimCLR's views draw, a kernel of 23 taps shrinks to 15 or fewer. The blur filters
along the rows first, rounds to 8 bits, then filters along the columns. The result is within one gray level of
torchvision's two-dimensional sum.

Both directions process vectors of 32 bytes (`taps.py`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.op import Drawn, Images, Key, Op, Pairs, after
from twoview.loaders.ops.taps import BITS, weigh_images, weigh_row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STREAM = 4  # the op's number in the random number generator (`rng.py`)
SIGMA_MIN, SIGMA_MAX, KERNEL, P = 0, 1, 2, 3  # columns of the settings in the op's part of the view table
SIGMAS = (0.1, 0.5, 1.0, 2.0)  # in pixels, compared with torchvision on the conformance card


class Blur(NamedTuple):
    """Gaussian blur with probability p, and with sigma uniform in [sigma_min, sigma_max] pixels.

    kernel: number of taps in each direction, odd.
    """

    sigma_min: float
    sigma_max: float
    kernel: int
    p: float


def check(settings: Blur, size: int) -> None:
    """Raise ValueError for a blur that a view of `size` pixels cannot have."""
    if settings.kernel % 2 != 1 or not 0 < settings.kernel // 2 < size:
        raise ValueError(
            f"a blur's kernel must be odd, at least 3 and less than twice the view's size of {size} pixels, "
            f"got {settings.kernel}"
        )
    if not 0 < settings.sigma_min <= settings.sigma_max:
        raise ValueError(
            f"a blur's sigmas must be positive and in ascending order, "
            f"got sigma_min {settings.sigma_min} and sigma_max {settings.sigma_max}"
        )


@kernel
def draw(sigma_min, sigma_max, p, seed, epoch, sample, view):
    """Return (blurred, sigma): blurred is True with probability p; sigma is uniform and in pixels."""
    sigma = sigma_min + (sigma_max - sigma_min) * rng.uniform(seed, epoch, sample, view, STREAM, 1)
    return rng.uniform(seed, epoch, sample, view, STREAM, 0) < p, sigma


@kernel
def weights(kernel, sigma):
    """Return the taps of a Gaussian kernel, int32 (2 r + 1,), which sum to 1 << 22, without negligible ones at the
    ends.

    kernel: number of taps before the negligible ones at the ends are dropped, odd. sigma: in pixels.
    """
    reach = kernel // 2
    exact = np.empty(reach + 1, np.float64)
    total = 0.0
    # The Gaussian exp(-(k / sigma)^2 / 2) at distance k from the middle tap, not normalized yet.
    for k in range(reach + 1):
        exact[k] = math.exp(-0.5 * (k / sigma) ** 2)
        total += exact[k] if k == 0 else 2.0 * exact[k]
    # Drop the outermost pair of taps while all that is dropped can change a value by less than an eighth of a level.
    radius, dropped = reach, 0.0
    while radius > 0 and (dropped + 2.0 * exact[radius]) * 255.0 < total / 8.0:
        dropped += 2.0 * exact[radius]
        radius -= 1
    # Round the normalized weights to fixed point. The middle tap gets the remainder, so that the sum is exact.
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
    """Return how many bytes of scratch memory `blur` needs for a (size, size, 3) image."""
    return (size + kernel) * (size + 1) * 3


@kernel
def _copy(out, to, source, at, count):
    """Copy `count` bytes from source[at:] to out[to:].

    A slice assignment would check for overlap first, which costs as much as the sums.
    """
    target, origin = out[to : to + count], source[at : at + count]
    for j in range(count):
        target[j] = origin[j]


@kernel
def blur(image, kernel, sigma, scratch):
    """Blur a uint8 (H, W, 3) image in place.

    kernel: number of taps in each direction, odd, with kernel // 2 < min(H, W). sigma: in pixels.
    scratch: uint8 1-D, of at least `scratch_bytes(max(H, W), kernel)` bytes.
    """
    height, width, _ = image.shape
    taps = weights(kernel, sigma)
    count = taps.size
    radius = count // 2
    flat, pitch = image.reshape(-1), width * 3
    padded = scratch[: pitch + 6 * radius]
    filtered = scratch[padded.size : padded.size + (height + 2 * radius) * pitch]

    # Filter each row, mirrored at its ends, into the middle part of `filtered`.
    for y in range(height):
        _copy(padded, 3 * radius, flat, y * pitch, pitch)
        for k in range(1, radius + 1):
            for c in range(3):
                padded[3 * (radius - k) + c] = padded[3 * (radius + k) + c]
                padded[3 * (radius + width - 1 + k) + c] = padded[3 * (radius + width - 1 - k) + c]
        weigh_row(filtered, (radius + y) * pitch, padded, 0, 3, taps, 0, count, pitch)
    # Mirror the filtered rows at the top and the bottom, then filter along the columns, back into the image.
    for k in range(1, radius + 1):
        _copy(filtered, (radius - k) * pitch, filtered, (radius + k) * pitch, pitch)
        _copy(filtered, (radius + height - 1 + k) * pitch, filtered, (radius + height - 1 - k) * pitch, pitch)
    for y in range(height):
        weigh_row(flat, y * pitch, filtered, y * pitch, pitch, taps, 0, count, pitch)


@kernel(inline="always")
def apply(image, row, scratch, seed, epoch, sample, view):
    """Blur the image in place if the draw says so; see `Op.apply`."""
    blurred, sigma = draw(row[SIGMA_MIN], row[SIGMA_MAX], row[P], seed, epoch, sample, view)
    if blurred:
        blur(image, int(row[KERNEL]), sigma, scratch)


@kernel(inline="always")
def drawn(to, row, size, seed, epoch, sample, view):
    """Write the taps from the middle one outward, followed by zeros; see `Op.drawn`.

    Without a blur the middle tap has all the weight, which changes nothing.
    """
    to[0] = 1 << BITS
    if row[P] > 0:
        blurred, sigma = draw(row[SIGMA_MIN], row[SIGMA_MAX], row[P], seed, epoch, sample, view)
        if blurred:
            taps = weights(int(row[KERNEL]), sigma)
            middle = taps.size // 2
            to[: middle + 1] = taps[middle:]


def _columns(settings: Blur) -> int:
    """Return the number of taps from the middle one to one end, for the widest blur that may be drawn."""
    return 1 + (weights(settings.kernel, settings.sigma_max).size // 2 if settings.p > 0 else 0)


def _on_device(settings: Sequence[Blur | None], device: "torch.device") -> Callable[..., "Tensor"]:
    """Return the blur of a batch on the device; see `Op.on_device`."""
    import torch

    def blurred(image: "Tensor", taps: "Tensor") -> "Tensor":
        """Blur uint8 (B, size, size, 3) images, mirrored at their outermost pixels.

        taps: int32 (B, columns), as `drawn` writes them.
        """
        radius = taps.shape[1] - 1
        each, reach = torch.arange(len(image), device=device), torch.arange(-radius, radius + 1, device=device)
        weights = taps[:, None, reach.abs()]
        for axis in (2, 1):
            last = image.shape[axis] - 1
            at = torch.arange(last + 1, device=device)[:, None] + reach
            image = weigh_images(image, each, axis, (last - (last - at.abs()).abs())[None], weights)
        return image

    return blurred


def reference(image, kernel, sigma):
    """Return a uint8 (H, W, 3) image blurred by torchvision on PIL images; see `blur` for the arguments."""
    from PIL import Image
    from torchvision.transforms import functional as F

    return np.asarray(F.gaussian_blur(Image.fromarray(image), [kernel, kernel], [sigma, sigma]))


def smoothed(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Return a uint8 (H, W, 3) image filtered by int32 taps along its rows, rounded to 8 bits, then along its columns.

    This is a readable implementation of `blur`, with the same result. The result of `reference` is not exactly equal.
    """
    import torch

    levels, weights = torch.tensor(image, dtype=torch.int64), torch.tensor(taps, dtype=torch.int64)
    for direction in (1, 0):
        levels = _filtered(levels, weights, direction)
    return levels.byte().numpy()


def _filtered(levels: "Tensor", weights: "Tensor", direction: int) -> "Tensor":
    """Return the rounded weighted sums of neighbors along one axis, with the image mirrored at its outermost pixels."""
    import torch

    last, radius = levels.shape[direction] - 1, len(weights) // 2
    mirrored = last - (last - torch.arange(-radius, last + 1 + radius).abs()).abs()
    neighbors = levels.index_select(direction, mirrored).unfold(direction, len(weights), 1)
    return (((neighbors * weights).sum(-1) + (1 << (BITS - 1))) >> BITS).clamp(0, 255)


def _reference(image: np.ndarray, settings: Blur, key: Key) -> np.ndarray:
    """Return the image after the op, by the reference implementation; see `Op.reference`."""
    blurred, sigma = draw(settings.sigma_min, settings.sigma_max, settings.p, *key)
    return smoothed(image, weights(settings.kernel, sigma)) if blurred else image


def _torchvision(settings: Blur) -> Any:
    from torchvision.transforms import GaussianBlur, RandomApply

    return RandomApply([GaussianBlur(settings.kernel, (settings.sigma_min, settings.sigma_max))], settings.p)


def _pixels(images: Images) -> Pairs:
    """Yield our blur and torchvision's, at any size with the 23 taps of SimCLR's ImageNet views at 224 pixels."""
    for image in images:
        scratch = np.empty(scratch_bytes(len(image), 23), np.uint8)
        for sigma in SIGMAS:
            yield after(blur, image, 23, sigma, scratch), reference(image, 23, sigma)


def _draws(count: int, seed: int) -> Iterator[Drawn]:
    """Yield our sigmas and torchvision's; see `Op.draws`."""
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
    reference=_reference,
    drawn=drawn,
    columns=_columns,
    on_device=_on_device,
    torchvision=_torchvision,
    pixels={"blur": (_pixels, 1)},
    applied=lambda p, *key: draw(0.1, 2.0, p, *key)[0],
    draws=_draws,
    steps={"blur": lambda settings: settings},
)
