"""The views of a whole batch by torch, on any device: the pixels of `twoview.loaders.decode` for images of one size.

The parameters are drawn on the host by the ops' own `draw`, one compiled call a batch, and reach the device as one
array. There every row of it becomes a view, by arithmetic on whole tensors without a loop over images and without a
branch, of shapes that never change, so that `torch.compile` makes a few kernels of it.

The pixels equal the CPU kernels' bit for bit on every device, since a level lost before contrast or saturation is more
than one behind them. So nothing is left to a compiler's rounding: sums are of whole numbers, or of products that are
exact in float32, so that a fused multiply-add gives what two operations give; no division has to be the nearest one.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twoview.loaders import decode
from twoview.loaders.kernels import kernel
from twoview.loaders.ops import blur, crop, flip, gray, jitter, resize, solarize
from twoview.loaders.ops.taps import BITS
from twoview.loaders.views import View

# The columns of what is drawn for a view, int32. STEP and AMOUNT have one for each of the jitter's four turns: which
# step, and its factor's bits as float32, or by how many of 255 levels the hue moves. Behind TAPS: the blur's taps from
# the middle one outwards. What is not to be done is there as what changes nothing.
TOP, LEFT, BOX_HEIGHT, BOX_WIDTH, FLIPPED, STEP, AMOUNT, GRAYED, LEVEL, TAPS = 0, 1, 2, 3, 4, 5, 9, 13, 14, 15


class Lines(NamedTuple):
    """What the resize of `loaders/ops` reads for each output pixel of a line, for boxes of all lengths.

    full: pixels that a box is resized to, of which `size` are kept. starts: int64 (longest + 1, size), in the box.
    weights: int32 (longest + 1, size, taps), with zeros behind those of a length that has fewer taps.
    """

    full: int
    starts: Tensor
    weights: Tensor


class Kind(NamedTuple):
    """Views `first` .. `last` - 1: of one size and interpolation, and so made together. jitters .. solarizes: whether
    any of them does."""

    first: int
    last: int
    size: int
    columns: Lines
    rows: Lines
    jitters: bool
    turns_hue: bool
    grays: bool
    blurs: bool
    solarizes: bool


class Renderer:
    """Makes views of images of one size. Raises ValueError for a view that cannot be made, naming it."""

    def __init__(self, views: Sequence[View], height: int, width: int, device: torch.device) -> None:
        self.height, self.width = height, width
        self.table = decode.view_table(views)
        self.radius = max((_radius(row) for row in self.table), default=0)
        self.kinds = [_kind(self.table, views, height, width, device) for views in _alike(self.table)]
        self.ties = torch.from_numpy(_ties()).to(device)

    def draw(self, samples: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """int32 (V, B, columns) for the sample numbers, int64 (B,): the same draws as the loader's."""
        return _draw(self.table, samples, np.uint64(seed), epoch, self.height, self.width, TAPS + 1 + self.radius)

    def make(self, images: Tensor, places: Tensor, drawn: Tensor) -> tuple[Tensor, ...]:
        """The views, each uint8 (B, 3, size, size), channels-last.

        images: uint8 (N, H, W, 3). places: int64 (B,), of the batch's images among them. drawn: from `draw`.
        """
        return tuple(view for kind in self.kinds for view in self._views(kind, images, places, drawn))

    def _views(self, kind: Kind, images: Tensor, places: Tensor, drawn: Tensor) -> tuple[Tensor, ...]:
        drawn = drawn[kind.first : kind.last].flatten(0, 1)
        out = _resized(images, places.repeat(kind.last - kind.first), drawn, kind)
        if kind.jitters or kind.grays:
            planes = [plane.float() for plane in out.unbind(-1)]
            if kind.jitters:
                planes = _jittered(planes, drawn, kind.turns_hue, self.ties)
            if kind.grays:
                luma = _luma(*planes)
                planes = [torch.where(_column(drawn, GRAYED) > 0, luma, plane) for plane in planes]
            out = torch.stack(planes, -1).byte()
        if kind.blurs:
            out = _blurred(out, drawn[:, TAPS:])
        if kind.solarizes:
            out = torch.where(out >= _column(drawn, LEVEL)[..., None], 255 - out, out)
        return out.contiguous().unflatten(0, (kind.last - kind.first, -1)).permute(0, 1, 4, 2, 3).unbind()


@kernel
def _draw(
    table: np.ndarray, samples: np.ndarray, seed: np.uint64, epoch: int, height: int, width: int, columns: int
) -> np.ndarray:
    """int32 (V, B, columns): see the columns' names. table: from `view_table`."""
    out = np.zeros((table.shape[0], samples.size, columns), np.int32)
    floats = out.view(np.float32)
    for view in range(table.shape[0]):
        row = table[view]
        strengths = (row[decode.BRIGHTNESS], row[decode.CONTRAST], row[decode.SATURATION], row[decode.HUE])
        for i in range(samples.size):
            key, to = (seed, epoch, samples[i], view), out[view, i]
            if row[decode.SCALE_MAX] > 0:
                box = crop.draw(
                    height,
                    width,
                    row[decode.SCALE_MIN],
                    row[decode.SCALE_MAX],
                    row[decode.RATIO_MIN],
                    row[decode.RATIO_MAX],
                    *key,
                )
            else:
                box = (0, 0, height, width)
            to[TOP], to[LEFT], to[BOX_HEIGHT], to[BOX_WIDTH] = box
            to[FLIPPED] = flip.draw(row[decode.FLIP_P], *key)
            jittered, factors, order = jitter.draw(*strengths, row[decode.JITTER_P], *key)
            for turn in range(4):
                step = order[turn]
                if not jittered or strengths[step] <= 0:
                    to[STEP + turn] = jitter.BRIGHTNESS
                    floats[view, i, AMOUNT + turn] = 1.0
                elif step == jitter.HUE:
                    to[STEP + turn] = step
                    to[AMOUNT + turn] = np.int32(factors[step] * 255)
                else:
                    to[STEP + turn] = step
                    floats[view, i, AMOUNT + turn] = factors[step]
            to[GRAYED] = gray.draw(row[decode.GRAY_P], *key)
            to[LEVEL] = row[decode.THRESHOLD] if solarize.draw(row[decode.SOLARIZE_P], *key) else 256
            to[TAPS] = 1 << BITS
            if row[decode.BLUR_P] > 0:
                blurred, sigma = blur.draw(row[decode.SIGMA_MIN], row[decode.SIGMA_MAX], row[decode.BLUR_P], *key)
                if blurred:
                    taps = blur.weights(int(row[decode.KERNEL]), sigma)
                    middle = taps.size // 2
                    to[TAPS : TAPS + middle + 1] = taps[middle:]
    return out


def _radius(row: np.ndarray) -> int:
    """Of the widest blur that a view may draw."""
    return blur.weights(int(row[decode.KERNEL]), row[decode.SIGMA_MAX]).size // 2 if row[decode.BLUR_P] > 0 else 0


def _alike(table: np.ndarray) -> list[list[int]]:
    """The views in runs that are resized alike."""
    alike = table[:, [decode.SIZE, decode.BICUBIC, decode.RESIZE]].tolist()
    return [list(run) for _, run in groupby(range(len(table)), alike.__getitem__)]


def _kind(table: np.ndarray, views: list[int], height: int, width: int, device: torch.device) -> Kind:
    row = table[views[0]]
    size, bicubic = int(row[decode.SIZE]), bool(row[decode.BICUBIC])
    full_height, full_width, y, x = size, size, 0, 0
    if row[decode.SCALE_MAX] == 0:
        full_height, full_width, y, x = crop.centre(height, width, int(row[decode.RESIZE]), size)
    columns = _lines(width, full_width, x, size, bicubic, device)
    rows = _lines(height, full_height, y, size, bicubic, device)
    ops = decode.JITTER_P, decode.HUE, decode.GRAY_P, decode.BLUR_P, decode.SOLARIZE_P
    return Kind(views[0], views[-1] + 1, size, columns, rows, *(bool(table[views, op].any()) for op in ops))


def _lines(longest: int, full: int, first: int, size: int, bicubic: bool, device: torch.device) -> Lines:
    """Of the output pixels first .. first + size of boxes of 1 .. `longest` pixels, resized to `full`."""
    made = [resize._taps(length, full, first, size, bicubic, False) for length in range(1, longest + 1)]
    starts = np.zeros((longest + 1, size), np.int64)
    weights = np.zeros((longest + 1, size, max(taps for _, _, taps in made)), np.int32)
    for length, (begin, weight, taps) in enumerate(made, 1):
        starts[length], weights[length, :, :taps] = begin, weight.reshape(size, taps)
    return Lines(full, torch.from_numpy(starts).to(device), torch.from_numpy(weights).to(device))


def _resized(images: Tensor, places: Tensor, drawn: Tensor, kind: Kind) -> Tensor:
    """uint8 (B, size, size, 3): PIL's two passes, each rounded to 8 bits, in PIL's order (loaders/ops/resize.py)."""
    _, height, width, _ = images.shape
    box_height, box_width = drawn[:, BOX_HEIGHT, None], drawn[:, BOX_WIDTH, None]
    each, to = (torch.arange(count, device=drawn.device) for count in (len(places), kind.size))
    mirrored = torch.where(drawn[:, FLIPPED, None] > 0, kind.size - 1 - to, to)
    along = 2, *_taken(kind.columns, drawn[:, LEFT, None], box_width, mirrored, width)
    down = 1, *_taken(kind.rows, drawn[:, TOP, None], box_height, to, height)
    along_first = _weighed(_weighed(images, places, *along), each, *down)
    if height <= kind.rows.full:
        return along_first
    down_first = _weighed(_weighed(images, places, *down), each, *along)
    shrinks = (box_height > kind.rows.full) & (box_height - kind.rows.full > 2 * (box_width - kind.columns.full))
    return torch.where(shrinks[..., None, None], down_first, along_first)


def _taken(lines: Lines, first: Tensor, length: Tensor, to: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """(places in an image's line, weights), both (B, size, taps), of the output pixels `to` of boxes in that line."""
    reach = torch.arange(lines.weights.shape[-1], device=to.device)
    places = (first + lines.starts[length, to])[..., None] + reach
    return places.clamp(max=longest - 1), lines.weights[length, to]  # past the end the weights are zero


def _weighed(images: Tensor, places: Tensor, axis: int, index: Tensor, weights: Tensor) -> Tensor:
    """uint8: the lines along an axis of images (N, H, W, 3) replaced by weighted sums of their pixels.

    places: (B,), which images. index, weights: (B or 1, out, taps) and (B, out or 1, taps), the sums as in `taps.py`.
    """
    lines, places = images.movedim(axis, 1), places[:, None]
    total: Tensor | int = 1 << (BITS - 1)
    for k in range(weights.shape[-1]):
        total = total + lines[places, index[..., k]].int() * weights[..., k, None, None]
    assert isinstance(total, Tensor)
    return (total >> BITS).clamp(0, 255).byte().movedim(1, axis)


def _blurred(image: Tensor, taps: Tensor) -> Tensor:
    """uint8 (B, H, W, 3), mirrored at its outermost pixels. taps: int32 (B, radius + 1), from the middle outwards."""
    radius = taps.shape[1] - 1
    each, reach = torch.arange(len(image), device=image.device), torch.arange(-radius, radius + 1, device=image.device)
    weights = taps[:, None, reach.abs()]
    for axis in (2, 1):
        last = image.shape[axis] - 1
        at = torch.arange(last + 1, device=image.device)[:, None] + reach
        image = _weighed(image, each, axis, (last - (last - at.abs()).abs())[None], weights)
    return image


def _column(drawn: Tensor, column: int) -> Tensor:
    return drawn[:, column, None, None]


def _jittered(planes: list[Tensor], drawn: Tensor, turns_hue: bool, ties: Tensor) -> list[Tensor]:
    """The four steps in each image's own order. planes: red, green, blue, float32 (B, H, W) of whole numbers.

    Brightness, contrast and saturation are blends with black, the mean grey and the pixel's own grey. Each turn makes
    the blend and the turned hue, and selects: as cheap as memory, where grouping images by order would cost shapes.
    """
    pixels = planes[0][0].numel()
    for turn in range(4):
        step, amount = _column(drawn, STEP + turn), _column(drawn, AMOUNT + turn)
        luma = _luma(*planes)
        mean = (2 * luma.int().sum((1, 2), keepdim=True, dtype=torch.int32) + pixels) // (2 * pixels)
        base = torch.where(step == jitter.SATURATION, luma, torch.where(step == jitter.CONTRAST, mean, 0).float())
        blends = [_blend(base, plane, amount) for plane in planes]
        if turns_hue:
            turned = _turned(planes, amount, ties)
            planes = [torch.where(step == jitter.HUE, a, b) for a, b in zip(turned, blends, strict=True)]
        else:
            planes = blends
    return planes


def _luma(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    """PIL's `L`. All sums are below 2 ** 24, and so exact in float32."""
    return ((19595.0 * red + 38470.0 * green + 7471.0 * blue + 32768.0) * 2.0**-16).floor()


def _blend(base: Tensor, value: Tensor, factor_bits: Tensor) -> Tensor:
    """base + factor * (value - base) in float32, clipped, truncated, with both roundings of PIL's `Image.blend`.

    A compiler may fuse the product and the sum, and leave out one of them. The factor in two parts of 12 bits has exact
    products, and their sum is the rounded product whether fused or not.
    """
    factor = factor_bits.view(torch.float32)
    high = (factor_bits & ~0xFFF).view(torch.float32)
    difference = value - base
    return (base + (high * difference + (factor - high) * difference)).clamp(0.0, 255.0).floor()


def _turned(planes: list[Tensor], shift: Tensor, ties: Tensor) -> list[Tensor]:
    """The colours with their 8-bit hue moved by `shift` levels: PIL's RGB to HSV and back.

    Hue and saturation are quotients of whole numbers, rounded down. Half a unit added to the dividend keeps them away
    from whole numbers, by more than the error of any division. Where a hue is a whole number, PIL's floating point
    falls below it or not: `ties`, see `_ties`.
    """
    red, green, blue = planes
    value = torch.maximum(red, torch.maximum(green, blue))
    chroma = value - torch.minimum(red, torch.minimum(green, blue))
    from_green, from_blue = 2.0 * chroma + (blue - red), 4.0 * chroma + (red - green)
    sixths = torch.where(red == value, green - blue, torch.where(green == value, from_green, from_blue))
    sixths = torch.where(sixths < 0.0, sixths + 6.0 * chroma, sixths)
    dividend, divisor = 255.0 * sixths, 6.0 * chroma.clamp(min=1.0)
    level = ((dividend + 0.5) / divisor).floor()
    level = torch.where(level * divisor == dividend, ties[level.int()], level.int())
    turned = 6.0 * ((level + shift) & 255).float()
    strength = ((255.0 * chroma + 0.5) / value.clamp(min=1.0)).floor()
    away = (510.0 - (turned - 765.0).abs(), (turned - 510.0).abs() - 255.0, (turned - 1020.0).abs() - 255.0)
    return [_shade(value, strength, absence) for absence in away]


def _shade(value: Tensor, strength: Tensor, absence: Tensor) -> Tensor:
    """As the jitter's `_shade`. A fused multiply-add gives the same for all values there are (tested)."""
    scaled = value * (65025.0 - strength * absence.clamp(0.0, 255.0))
    return (scaled * (1.0 / 65025.0) + 0.5).floor()


def _ties() -> np.ndarray:
    """int32 (256,): PIL's hue where the exact one is 0 .. 254: that, or one less.

    Whole hues n are those of 2 n of the 6 * 85 colours of a wheel of chroma 85, and as floating-point numbers their
    quotients are the same for every chroma.
    """
    place = 2 * np.arange(256)
    wheel = (np.abs(place - 255) - 85, 170 - np.abs(place - 170), 170 - np.abs(place - 340))
    colours = np.stack([np.clip(channel, 0, 85) for channel in wheel], -1).astype(np.uint8)
    return np.asarray(Image.fromarray(colours[None]).convert("HSV"))[0, :, 0].astype(np.int32)
