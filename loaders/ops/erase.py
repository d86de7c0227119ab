"""Random erasing (Zhong et al. 2020, arXiv:1708.04896): a box of the view is filled with one gray level.

This is torchvision's `RandomErasing` with a number as its value, except for what the value means. torchvision erases
after normalization, where a value of 0 is the dataset's mean color. The loader's views are bytes before normalization,
where a level of 0 is black. To match torchvision's default, use the level nearest to 255 times the mean.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.op import Drawn, Images, Key, Op, Pairs, after

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STREAM = 12  # the op's number in the random number generator (`rng.py`)
TRIES = 10  # boxes that are drawn before the view is left as it is, as in torchvision
SCALE_MIN, SCALE_MAX, RATIO_MIN, RATIO_MAX, LEVEL, P = range(6)  # columns in the op's part of the view table


class Erase(NamedTuple):
    """Fill a box with one level, with probability p. The defaults are torchvision's.

    The box's share of the view's area is uniform in [scale_min, scale_max], its aspect ratio (height / width)
    log-uniform in [ratio_min, ratio_max], its position uniform among those that fit.
    level: the value that every channel gets, 0 to 255.
    """

    scale_min: float = 0.02
    scale_max: float = 0.33
    ratio_min: float = 0.3
    ratio_max: float = 3.3
    level: int = 0
    p: float = 0.5


def check(settings: Erase, size: int) -> None:
    """Raise ValueError for boxes that cannot be drawn, or for a level that no pixel can have."""
    if not 0 <= settings.scale_min <= settings.scale_max <= 1:
        raise ValueError(
            f"the erased shares of a view must be from 0 to 1 and in ascending order, "
            f"got scale_min {settings.scale_min} and scale_max {settings.scale_max}"
        )
    if not 0 < settings.ratio_min <= settings.ratio_max:
        raise ValueError(
            f"the erased boxes' ratios must be positive and in ascending order, "
            f"got ratio_min {settings.ratio_min} and ratio_max {settings.ratio_max}"
        )
    if settings.level not in range(256):
        raise ValueError(f"the erased boxes' level must be a whole number from 0 to 255, got {settings.level}")


@kernel
def draw(size, scale_min, scale_max, ratio_min, ratio_max, p, seed, epoch, sample, view):
    """Return (erased, top, left, height, width): erased is True with probability p, the rest is a box in pixels.

    The box is drawn as torchvision's `RandomErasing.get_params` draws it. If ten boxes in turn do not fit, it is empty.
    """
    erased = rng.uniform(seed, epoch, sample, view, STREAM, 0) < p
    log_min, log_max = math.log(ratio_min), math.log(ratio_max)
    for attempt in range(TRIES):
        first = 1 + 4 * attempt
        share = scale_min + (scale_max - scale_min) * rng.uniform(seed, epoch, sample, view, STREAM, first)
        log_ratio = log_min + (log_max - log_min) * rng.uniform(seed, epoch, sample, view, STREAM, first + 1)
        area, ratio = share * (size * size), math.exp(log_ratio)
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < size and w < size:
            top = int((size - h + 1) * rng.uniform(seed, epoch, sample, view, STREAM, first + 2))
            left = int((size - w + 1) * rng.uniform(seed, epoch, sample, view, STREAM, first + 3))
            return erased, top, left, h, w
    return erased, 0, 0, 0, 0


@kernel
def erase(image, top, left, height, width, level):
    """Fill a box of a uint8 (H, W, 3) image with one level, in place."""
    for y in range(top, top + height):
        for x in range(left, left + width):
            for c in range(3):
                image[y, x, c] = level


@kernel(inline="always")
def apply(image, row, scratch, seed, epoch, sample, view):
    """Erase a box of the image in place if the draw says so; see `Op.apply`."""
    erased, top, left, height, width = draw(
        image.shape[0], row[SCALE_MIN], row[SCALE_MAX], row[RATIO_MIN], row[RATIO_MAX], row[P],
        seed, epoch, sample, view,
    )  # fmt: skip
    if erased:
        erase(image, top, left, height, width, np.uint8(row[LEVEL]))


@kernel(inline="always")
def drawn(to, row, size, seed, epoch, sample, view):
    """Write the box's top, left, bottom and right, and the level; see `Op.drawn`.

    Bottom and right are the first row and column after the box. All stay 0, an empty box, where nothing is erased.
    """
    if row[P] > 0:
        erased, top, left, height, width = draw(
            size, row[SCALE_MIN], row[SCALE_MAX], row[RATIO_MIN], row[RATIO_MAX], row[P], seed, epoch, sample, view
        )
        if erased:
            to[0], to[1], to[2], to[3], to[4] = top, left, top + height, left + width, row[LEVEL]


def _on_device(settings: Sequence[Erase | None], device: "torch.device") -> Callable[..., "Tensor"]:
    """Return the erasing of a batch on the device; see `Op.on_device`."""
    import torch

    def erased(image: "Tensor", drawn: "Tensor") -> "Tensor":
        y, x = (torch.arange(count, device=device) for count in image.shape[1:3])
        top, left, bottom, right, level = (drawn[:, column, None, None] for column in range(5))
        rows, columns = (y[:, None] >= top) & (y[:, None] < bottom), (x >= left) & (x < right)
        return torch.where((rows & columns)[..., None], level[..., None].byte(), image)

    return erased


def reference(image, top, left, height, width, level):
    """Return a uint8 (H, W, 3) image with the box filled by torchvision on tensors; see `erase` for the arguments."""
    import torch
    from torchvision.transforms import functional as F

    planes = torch.from_numpy(image.copy()).permute(2, 0, 1)
    return F.erase(planes, top, left, height, width, torch.tensor(level)).permute(1, 2, 0).numpy()


def _reference(image: np.ndarray, settings: Erase, key: Key) -> np.ndarray:
    """Return the image after the op, by the reference implementation; see `Op.reference`."""
    erased, top, left, height, width = draw(len(image), *settings[:LEVEL], settings.p, *key)
    return reference(image, top, left, height, width, settings.level) if erased else image


def _torchvision(settings: Erase) -> Any:
    from torchvision.transforms import RandomErasing

    scale, ratio = settings[SCALE_MIN:RATIO_MIN], settings[RATIO_MIN:LEVEL]
    return RandomErasing(settings.p, scale, ratio, settings.level, inplace=True)


def _pixels(images: Images) -> Pairs:
    """Yield our image and torchvision's for a drawn box, one in a corner, and an empty one."""
    for sample, image in enumerate(images):
        _, *box = draw(len(image), *Erase()[:LEVEL], 1.0, 0, 0, sample, 0)
        for top, left, height, width in (box, (0, 0, 5, 7), (3, 4, 0, 0)):
            ours = after(erase, image, top, left, height, width, 99)
            yield ours, reference(image, top, left, height, width, 99)


def _draws(count: int, seed: int) -> Iterator[Drawn]:
    """Yield our boxes and torchvision's, with torchvision's default settings; see `Op.draws`."""
    import torch
    from torchvision.transforms import RandomErasing

    size, (*ranges, _, p) = 224, Erase()
    ours = np.array([draw(size, *ranges, p, seed, 0, sample, 0)[1:] for sample in range(count)])
    image, scale, ratio = torch.empty(3, size, size), ranges[:2], ranges[2:]
    theirs = np.array([RandomErasing.get_params(image, scale, ratio, [0.0])[:4] for _ in range(count)])
    for check, measure in (
        ("erased area", lambda box: box[:, 2] * box[:, 3]),
        ("erased aspect ratio", lambda box: box[:, 2] / box[:, 3]),
        ("erased top", lambda box: box[:, 0]),
        ("erased left", lambda box: box[:, 1]),
    ):
        yield Drawn(check, f"{size} pixels", measure(ours).tolist(), measure(theirs).tolist())


ERASE = Op(
    name="erase",
    stream=STREAM,
    settings=Erase,
    check=check,
    apply=apply,
    reference=_reference,
    drawn=drawn,
    columns=lambda settings: 5,
    on_device=_on_device,
    torchvision=_torchvision,
    on_tensors=True,
    pixels={"erase": (_pixels, 0)},
    applied=lambda p, *key: draw(224, *Erase()[:LEVEL], p, *key)[0],
    draws=_draws,
    steps={"erase": lambda settings: settings},
)
