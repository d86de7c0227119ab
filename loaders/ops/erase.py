"""Random erasing (Zhong et al. 2020, arXiv:1708.04896): a box of the view is filled with one level.

As torchvision's `RandomErasing` with a number as its value. torchvision's comes after the normalization, where a value
of 0 is the dataset's mean color. The loader's views are bytes before the normalization, and a level of 0 is black: for
what torchvision's default does, take the level nearest to 255 times the mean.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.op import Drawn, Key, Op, Pairs, Pictures, after

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STREAM = 12
TRIES = 10
SCALE_MIN, SCALE_MAX, RATIO_MIN, RATIO_MAX, LEVEL, P = range(6)  # the table's columns


class Erase(NamedTuple):
    """Filling of a box with one level, with probability p; the defaults are torchvision's.

    The box's share of the view's area is uniform in [scale_min, scale_max], its aspect ratio (height / width)
    log-uniform in [ratio_min, ratio_max], its position uniform among those that fit. level: 0 to 255, of each channel.
    """

    scale_min: float = 0.02
    scale_max: float = 0.33
    ratio_min: float = 0.3
    ratio_max: float = 3.3
    level: int = 0
    p: float = 0.5


def check(settings: Erase, size: int) -> None:
    """ValueError for boxes that cannot be drawn, or a level that no pixel has."""
    if not 0 <= settings.scale_min <= settings.scale_max <= 1:
        raise ValueError("the erased shares of a view must be from 0 to 1 and in ascending order")
    if not 0 < settings.ratio_min <= settings.ratio_max:
        raise ValueError("the erased boxes' ratios must be positive and in ascending order")
    if settings.level not in range(256):
        raise ValueError("the erased boxes' level must be a whole number from 0 to 255")


@kernel
def draw(size, scale_min, scale_max, ratio_min, ratio_max, p, seed, epoch, sample, view):
    """(whether to erase, True with probability p; top, left, height, width of the box in pixels).

    The box is drawn as `RandomErasing.get_params` of torchvision draws it. After ten that do not fit: an empty one.
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
    """Fill a box of a uint8 (H, W, 3) image, in place."""
    for y in range(top, top + height):
        for x in range(left, left + width):
            for c in range(3):
                image[y, x, c] = level


@kernel(inline="always")
def apply(image, row, scratch, seed, epoch, sample, view):
    """As `Op.apply`."""
    erased, top, left, height, width = draw(
        image.shape[0], row[SCALE_MIN], row[SCALE_MAX], row[RATIO_MIN], row[RATIO_MAX], row[P],
        seed, epoch, sample, view,
    )  # fmt: skip
    if erased:
        erase(image, top, left, height, width, np.uint8(row[LEVEL]))


@kernel(inline="always")
def drawn(to, row, size, seed, epoch, sample, view):
    """As `Op.drawn`: the box's first and last row and column, those behind it, and the level."""
    if row[P] > 0:
        erased, top, left, height, width = draw(
            size, row[SCALE_MIN], row[SCALE_MAX], row[RATIO_MIN], row[RATIO_MAX], row[P], seed, epoch, sample, view
        )
        if erased:
            to[0], to[1], to[2], to[3], to[4] = top, left, top + height, left + width, row[LEVEL]


def _on_device(settings: Sequence[Erase | None], device: "torch.device") -> Callable[..., "Tensor"]:
    import torch

    def erased(image: "Tensor", drawn: "Tensor") -> "Tensor":
        y, x = (torch.arange(count, device=device) for count in image.shape[1:3])
        top, left, bottom, right, level = (drawn[:, column, None, None] for column in range(5))
        rows, columns = (y[:, None] >= top) & (y[:, None] < bottom), (x >= left) & (x < right)
        return torch.where((rows & columns)[..., None], level[..., None].byte(), image)

    return erased


def twin(image, top, left, height, width, level):
    """The same by torchvision on tensors."""
    import torch
    from torchvision.transforms import functional as F

    planes = torch.from_numpy(image.copy()).permute(2, 0, 1)
    return F.erase(planes, top, left, height, width, torch.tensor(level)).permute(1, 2, 0).numpy()


def _twin(image: np.ndarray, settings: Erase, key: Key) -> np.ndarray:
    erased, top, left, height, width = draw(len(image), *settings[:LEVEL], settings.p, *key)
    return twin(image, top, left, height, width, settings.level) if erased else image


def _torchvision(settings: Erase) -> Any:
    from torchvision.transforms import RandomErasing

    scale, ratio = settings[SCALE_MIN:RATIO_MIN], settings[RATIO_MIN:LEVEL]
    return RandomErasing(settings.p, scale, ratio, settings.level, inplace=True)


def _pixels(pictures: Pictures) -> Pairs:
    """Boxes as they are drawn, one in a corner, and an empty one."""
    for sample, picture in enumerate(pictures):
        _, *box = draw(len(picture), *Erase()[:LEVEL], 1.0, 0, 0, sample, 0)
        for top, left, height, width in (box, (0, 0, 5, 7), (3, 4, 0, 0)):
            ours = after(erase, picture, top, left, height, width, 99)
            yield ours, twin(picture, top, left, height, width, 99)


def _draws(count: int, seed: int) -> Iterator[Drawn]:
    import torch
    from torchvision.transforms import RandomErasing

    size, (*ranges, _, p) = 224, Erase()
    ours = np.array([draw(size, *ranges, p, seed, 0, sample, 0)[1:] for sample in range(count)])
    picture, scale, ratio = torch.empty(3, size, size), ranges[:2], ranges[2:]
    theirs = np.array([RandomErasing.get_params(picture, scale, ratio, [0.0])[:4] for _ in range(count)])
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
    twin=_twin,
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
