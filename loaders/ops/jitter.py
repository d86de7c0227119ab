"""Color jitter: brightness, contrast, saturation and hue in a random order, as torchvision does it on PIL images.

Each step rounds to 8 bits before the next one, as PIL does, and the result equals PIL's bit for bit: `Image.blend`
truncates in float32, contrast blends with the rounded mean of the gray image at that point, hue goes through PIL's
8-bit HSV.

The steps are fused: the image is cut into blocks, and each block is copied to three float32 planes (`planes.py`), goes
through all its steps there, and is copied back. Only contrast needs to have seen the whole image first, so there are
at most two sweeps over the image: one for the steps before contrast and the sum of the gray levels, one for contrast
and the steps after it.

LLVM vectorizes the loops of the steps (8 lanes with AVX2), since they have no branches and all their numbers are 32
bits wide; a single 64-bit number in a loop halves its speed. All four steps take 164 us at 224 pixels; with one sweep
per step they take 247 us.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twoview.loaders import rng
from twoview.loaders.kernels import kernel
from twoview.loaders.ops.gray import luma, luma_planes
from twoview.loaders.ops.op import Counted, Drawn, Images, Key, Op, Pairs, after
from twoview.loaders.ops.planes import BLOCK, join, split

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STREAM = 2  # the op's number in the random number generator (`rng.py`)

# The steps, which are also the columns of their strengths in the op's part of the view table. The probability follows.
BRIGHTNESS = 0
CONTRAST = 1
SATURATION = 2
HUE = 3
P = 4

# The columns of what is drawn for the device. From STEP on: which step comes first, second, third and fourth. From
# AMOUNT on, in the same order: the bits of the step's float32 factor, or by how many of 255 levels the hue moves.
STEP, AMOUNT, COLUMNS = 0, 4, 8

# What the conformance card compares with torchvision.
STRENGTHS = (0.8, 0.4, 1.5, 0.2)  # of the four steps; with a strength above 1 the range of factors begins at 0
FACTORS = (0.0, 0.2, 0.7, 1.0, 1.3, 1.8)  # of brightness, contrast and saturation
TURNS = (-0.5, -0.2, -0.003, 0.0, 0.1, 0.33, 0.5)  # of the hue


class Jitter(NamedTuple):
    """Color jitter, with the strengths of `torchvision.transforms.ColorJitter`, applied with probability p."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float


def check(settings: Jitter, size: int) -> None:
    """Raise ValueError for strengths that a jitter cannot have."""
    if not all(strength >= 0 for strength in settings[:3]):
        raise ValueError(
            f"brightness, contrast and saturation must be 0 or above, "
            f"got {settings.brightness}, {settings.contrast} and {settings.saturation}"
        )
    if not 0 <= settings.hue <= 0.5:
        raise ValueError(f"hue must be from 0 to 0.5 turns, got {settings.hue}")


@kernel
def draw(brightness, contrast, saturation, hue, p, seed, epoch, sample, view):
    """Return (jittered, factors, order): jittered is True with probability p, order permutes the four steps 0 .. 3.

    The draws follow torchvision's `ColorJitter(brightness, contrast, saturation, hue)`: the factors of the first three
    are uniform in [max(0, 1 - strength), 1 + strength], the factor of hue in [-strength, strength] turns, and all
    orders are equally likely.
    """
    factor_b = _between(max(0.0, 1.0 - brightness), 1.0 + brightness, seed, epoch, sample, view, 1)
    factor_c = _between(max(0.0, 1.0 - contrast), 1.0 + contrast, seed, epoch, sample, view, 2)
    factor_s = _between(max(0.0, 1.0 - saturation), 1.0 + saturation, seed, epoch, sample, view, 3)
    factor_h = _between(-hue, hue, seed, epoch, sample, view, 4)
    # A Fisher-Yates shuffle of the four steps.
    order = np.arange(4)
    for last in range(3, 0, -1):
        other = int((last + 1) * rng.uniform(seed, epoch, sample, view, STREAM, 4 + last))
        order[last], order[other] = order[other], order[last]
    apply = rng.uniform(seed, epoch, sample, view, STREAM, 0) < p
    return apply, (factor_b, factor_c, factor_s, factor_h), (order[0], order[1], order[2], order[3])


@kernel
def _between(low, high, seed, epoch, sample, view, draw):
    """Return a random number, uniform in [low, high). draw: which of the op's random numbers it is made of."""
    return low + (high - low) * rng.uniform(seed, epoch, sample, view, STREAM, draw)


@kernel
def jitter(image, strengths, factors, order):
    """Apply the four steps to a uint8 (H, W, 3) image in place, in the given order, and skip steps of strength 0.

    strengths, factors: one number for each of brightness, contrast, saturation and hue. order: a permutation of 0 .. 3.
    """
    planes = np.empty((3, BLOCK), np.float32)
    # An image of one block stays in the planes between the sweeps: it is neither written nor read again in between.
    kept = image.size <= 3 * BLOCK
    before, mean = 0, np.float32(0.0)
    # The first sweep: the steps before contrast, and the mean gray that contrast needs, rounded as PIL rounds it.
    if strengths[CONTRAST] > 0:
        while order[before] != CONTRAST:
            before += 1
        gray = _sweep(image, planes, True, before > 0 and not kept, strengths, factors, order, 0, before, mean)
        mean = np.float32(int(gray / (image.size // 3) + 0.5))
    read = strengths[CONTRAST] <= 0 or not kept
    _sweep(image, planes, read, True, strengths, factors, order, before, 4, mean)


@kernel
def _sweep(image, planes, read, write, strengths, factors, order, begin, end, mean):
    """Apply steps order[begin : end] to the whole image, block by block. Return the sum of the resulting gray levels.

    planes: float32 (3, BLOCK), where a block is worked on. read: whether blocks are copied from the image first.
    write: whether blocks are copied to the image afterwards. mean: the gray level that contrast blends with.
    The sum is 0 if end is 4, where no contrast follows that needs it.
    """
    pixels = image.reshape(-1)
    r, g, b = planes[0], planes[1], planes[2]
    total = 0
    for at in range(0, pixels.size, 3 * BLOCK):
        count = min(BLOCK, (pixels.size - at) // 3)
        if read:
            split(r, g, b, pixels, at, count)
        for k in range(begin, end):
            step = order[k]
            if strengths[step] > 0:
                factor = np.float32(factors[step])
                if step == BRIGHTNESS:
                    _scale(r, g, b, count, np.float32(0.0), factor)
                elif step == CONTRAST:
                    _scale(r, g, b, count, mean, factor)
                elif step == SATURATION:
                    _saturate(r, g, b, count, factor)
                else:
                    _turn(r, g, b, count, np.int32(factors[HUE] * 255))
        if end < 4:
            total += _sum(r, g, b, count)
        if write:
            join(r, g, b, pixels, at, count)
    return total


@kernel
def _blend(base, value, factor):
    """Return PIL's `Image.blend` of two levels: base + factor * (value - base) in float32, clipped and truncated."""
    level = base + factor * (value - base)
    return np.trunc(min(max(level, np.float32(0.0)), np.float32(255.0)))


@kernel
def _scale(r, g, b, count, base, factor):
    """Blend `count` pixels with the gray level `base`: brightness with black, contrast with the mean gray."""
    for i in range(count):
        r[i], g[i], b[i] = _blend(base, r[i], factor), _blend(base, g[i], factor), _blend(base, b[i], factor)


@kernel
def _sum(r, g, b, count):
    """Return the sum of the gray levels of `count` pixels."""
    total = np.int32(0)
    for i in range(count):
        total = np.int32(total + np.int32(luma(r[i], g[i], b[i])))
    return total


@kernel
def _saturate(r, g, b, count, factor):
    """Blend each of `count` pixels with its own gray level."""
    for i in range(count):
        gray = luma(r[i], g[i], b[i])
        r[i], g[i], b[i] = _blend(gray, r[i], factor), _blend(gray, g[i], factor), _blend(gray, b[i], factor)


@kernel(error_model="numpy")
def _turn(reds, greens, blues, count, shift):
    """Add `shift` to the 8-bit hue of `count` pixels: convert RGB to HSV and back as PIL does.

    The chroma is the difference between the largest and the smallest channel. In sixths of a turn, a hue is 1, 3 or 5,
    depending on which channel is smallest, plus the difference of the other two channels divided by the chroma. PIL
    rounds to float32 after that sum, after the division by 6, and after adding 1 to a negative hue. Some hues that are
    exact multiples of 1/255 of a turn therefore come out just below. The factors here, whose product is 42.5, round as
    PIL does for every chroma and difference, and save the division.
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    for i in range(count):
        r, g, b = reds[i], greens[i], blues[i]
        # RGB to HSV: `hue` from 0 to 255, `strength` (the saturation) from 0 to 255, and `value`.
        value, least = max(r, max(g, b)), min(r, min(g, b))
        chroma = value - least
        if b == least:
            base, ahead, behind = one, g, r
        elif r == least:
            base, ahead, behind = np.float32(3.0), b, g
        else:
            base, ahead, behind = (np.float32(-1.0) if r >= b else np.float32(5.0)), r, b
        turns = (base + (ahead - behind) / max(chroma, one)) * np.float32(0.16664259)
        turns = turns + np.float32(0.9998556) if turns < zero else turns
        hue = np.int32(np.int32(turns * np.float32(255.03683)) + shift) & np.int32(255)
        strength = np.trunc(chroma / max(value, one) * np.float32(255.0))

        # HSV to RGB: red, green and blue differ only in how far the hue is from each.
        turned, full, slope = np.float32(hue) * np.float32(6.0), value * np.float32(65025.0), value * strength
        reds[i] = _shade(full, slope, np.float32(510.0) - abs(turned - np.float32(765.0)))
        greens[i] = _shade(full, slope, abs(turned - np.float32(510.0)) - np.float32(255.0))
        blues[i] = _shade(full, slope, abs(turned - np.float32(1020.0)) - np.float32(255.0))


@kernel
def _shade(full, slope, absence):
    """Return a channel of an 8-bit HSV color: value * (1 - strength / 255 * absence / 255), rounded.

    full: value * 255 ** 2. slope: value * strength. absence: how far the hue is from this channel, clipped to 0 .. 255.
    Up to the division all numbers are whole and below 2 ** 24, and therefore exact in float32.
    """
    share = min(max(absence, np.float32(0.0)), np.float32(255.0))
    return np.rint((full - slope * share) * np.float32(1.0 / 65025.0))


@kernel(inline="always")
def apply(image, row, scratch, seed, epoch, sample, view):
    """Jitter the image in place if the draw says so; see `Op.apply`."""
    strengths = (row[BRIGHTNESS], row[CONTRAST], row[SATURATION], row[HUE])
    jittered, factors, order = draw(
        row[BRIGHTNESS], row[CONTRAST], row[SATURATION], row[HUE], row[P], seed, epoch, sample, view
    )
    if jittered:
        jitter(image, strengths, factors, order)


@kernel(inline="always")
def drawn(to, row, size, seed, epoch, sample, view):
    """Write the steps in their order, and their amounts; see `Op.drawn`.

    A step that is not applied becomes a brightness step of factor 1, which changes nothing.
    """
    jittered, factors, order = draw(
        row[BRIGHTNESS], row[CONTRAST], row[SATURATION], row[HUE], row[P], seed, epoch, sample, view
    )
    floats = to.view(np.float32)
    for turn in range(4):
        step = order[turn]
        if not jittered or row[step] <= 0:
            to[STEP + turn] = BRIGHTNESS
            floats[AMOUNT + turn] = 1.0
        elif step == HUE:
            to[STEP + turn] = step
            to[AMOUNT + turn] = np.int32(factors[step] * 255)
        else:
            to[STEP + turn] = step
            floats[AMOUNT + turn] = factors[step]


@kernel
def brightness(image, factor):
    """Blend a uint8 (H, W, 3) image with black, in place; factor 1 changes nothing."""
    jitter(image, (1.0, 0.0, 0.0, 0.0), (factor, 0.0, 0.0, 0.0), (BRIGHTNESS, CONTRAST, SATURATION, HUE))


@kernel
def contrast(image, factor):
    """Blend a uint8 (H, W, 3) image with its mean gray, in place; factor 1 changes nothing."""
    jitter(image, (0.0, 1.0, 0.0, 0.0), (0.0, factor, 0.0, 0.0), (BRIGHTNESS, CONTRAST, SATURATION, HUE))


@kernel
def saturation(image, factor):
    """Blend a uint8 (H, W, 3) image with its own gray, in place; factor 1 changes nothing."""
    jitter(image, (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, factor, 0.0), (BRIGHTNESS, CONTRAST, SATURATION, HUE))


@kernel
def hue(image, factor):
    """Turn the hue of a uint8 (H, W, 3) image by `factor` turns in [-0.5, 0.5], in place."""
    jitter(image, (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, factor), (BRIGHTNESS, CONTRAST, SATURATION, HUE))


def _on_device(settings: Sequence[Jitter | None], device: "torch.device") -> Callable[..., list["Tensor"]]:
    """Return the jitter of a batch on the device; see `Op.on_device`."""
    import torch

    turns_hue = any(one is not None and one.hue > 0 for one in settings)
    ties = torch.from_numpy(hue_ties()).to(device)

    def jittered(planes: list["Tensor"], drawn: "Tensor") -> list["Tensor"]:
        """Apply the four steps to planes, float32 (B, H, W), in each image's own order.

        Brightness, contrast and saturation are blends with black, the mean gray and the pixel's own gray. Each of the
        four rounds computes both the blend and the turned hue for all images, and selects per image. That costs no more
        than the memory traffic, while grouping the images by order would make shapes vary.
        """
        pixels = planes[0][0].numel()
        for turn in range(4):
            step, amount = (drawn[:, column + turn, None, None] for column in (STEP, AMOUNT))
            luma = luma_planes(*planes)
            # The mean gray, rounded to the nearest whole number in integer arithmetic.
            mean = (2 * luma.int().sum((1, 2), keepdim=True, dtype=torch.int32) + pixels) // (2 * pixels)
            base = torch.where(step == SATURATION, luma, torch.where(step == CONTRAST, mean, 0).float())
            blends = [_blend_planes(base, plane, amount) for plane in planes]
            if turns_hue:
                turned = turn_planes(planes, amount, ties)
                planes = [torch.where(step == HUE, a, b) for a, b in zip(turned, blends, strict=True)]
            else:
                planes = blends
        return planes

    return jittered


def _blend_planes(base: "Tensor", value: "Tensor", factor_bits: "Tensor") -> "Tensor":
    """Return base + factor * (value - base) in float32, clipped and truncated, with both roundings of `Image.blend`.

    PIL rounds the product and the sum. A compiler may fuse the two and round only once. Here the factor is split into
    two parts of 12 bits, whose products are exact, and the sum of those is the rounded product, fused or not.
    """
    import torch

    factor = factor_bits.view(torch.float32)
    high = (factor_bits & ~0xFFF).view(torch.float32)
    difference = value - base
    return (base + (high * difference + (factor - high) * difference)).clamp(0.0, 255.0).floor()


def turn_planes(planes: list["Tensor"], shift: "Tensor", ties: "Tensor") -> list["Tensor"]:
    """Return the colors with their 8-bit hue moved by `shift` levels: RGB to HSV and back, as PIL does it.

    planes: red, green, blue, float32 (B, H, W). shift: int32. ties: from `hue_ties`.

    Hue and saturation are quotients of whole numbers, rounded down. Half a unit added to the dividend keeps each
    quotient away from whole numbers by more than the error of any division. Where the exact hue is a whole number,
    PIL's floating-point result may fall just below it; `ties` tells where it does.
    """
    import torch

    red, green, blue = planes
    # RGB to HSV. The hue is `sixths` / (6 * chroma) turns, from 0 to 1.
    value = torch.maximum(red, torch.maximum(green, blue))
    chroma = value - torch.minimum(red, torch.minimum(green, blue))
    from_green, from_blue = 2.0 * chroma + (blue - red), 4.0 * chroma + (red - green)
    sixths = torch.where(red == value, green - blue, torch.where(green == value, from_green, from_blue))
    sixths = torch.where(sixths < 0.0, sixths + 6.0 * chroma, sixths)
    dividend, divisor = 255.0 * sixths, 6.0 * chroma.clamp(min=1.0)
    level = ((dividend + 0.5) / divisor).floor()
    level = torch.where(level * divisor == dividend, ties[level.int()], level.int())
    # Move the hue, and convert HSV back to RGB as `_turn` does.
    turned = 6.0 * ((level + shift) & 255).float()
    strength = ((255.0 * chroma + 0.5) / value.clamp(min=1.0)).floor()
    away = (510.0 - (turned - 765.0).abs(), (turned - 510.0).abs() - 255.0, (turned - 1020.0).abs() - 255.0)
    return [_shade_plane(value, strength, absence) for absence in away]


def _shade_plane(value: "Tensor", strength: "Tensor", absence: "Tensor") -> "Tensor":
    """Return what `_shade` returns. A test shows that a fused multiply-add gives the same for all possible values."""
    scaled = value * (65025.0 - strength * absence.clamp(0.0, 255.0))
    return (scaled * (1.0 / 65025.0) + 0.5).floor()


def hue_ties() -> np.ndarray:
    """Return, as int32 (256,), the hue that PIL computes where the exact hue is n = 0 .. 254: n, or one less.

    A color wheel of chroma 85 has 6 * 85 colors; the one at place 2 n has exactly the hue n. One chroma is enough,
    since the floating-point quotients are the same for every chroma.
    """
    from PIL import Image

    place = 2 * np.arange(256)
    wheel = (np.abs(place - 255) - 85, 170 - np.abs(place - 170), 170 - np.abs(place - 340))
    colors = np.stack([np.clip(channel, 0, 85) for channel in wheel], -1).astype(np.uint8)
    return np.asarray(Image.fromarray(colors[None]).convert("HSV"))[0, :, 0].astype(np.int32)


def reference(image, strengths, factors, order):
    """Return a uint8 (H, W, 3) image jittered by torchvision on PIL images; see `jitter` for the arguments."""
    from PIL import Image
    from torchvision.transforms import functional as F

    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    result = Image.fromarray(image)
    for step in order:
        if strengths[step] > 0:
            result = steps[step](result, factors[step])
    return np.asarray(result)


def _reference(image: np.ndarray, settings: Jitter, key: Key) -> np.ndarray:
    """Return the image after the op, by the reference implementation; see `Op.reference`."""
    jittered, factors, order = draw(*settings, *key)
    return reference(image, settings[:4], factors, order) if jittered else image


def _torchvision(settings: Jitter) -> Any:
    from torchvision.transforms import ColorJitter, RandomApply

    return RandomApply([ColorJitter(*settings[:4])], settings.p)


def _step_pixels(step: int, factors: Sequence[float], images: Images) -> Pairs:
    """Yield our result of one step alone and torchvision's, for each image and factor."""
    kernels, only = (brightness, contrast, saturation, hue), [float(k == step) for k in range(4)]
    for image in images:
        for factor in factors:
            yield after(kernels[step], image, factor), reference(image, only, [factor] * 4, (step,))


def _pixels(images: Images) -> Pairs:
    """Yield our result of all four steps and torchvision's, in each of the 24 orders."""
    factors = (1.3, 0.7, 1.5, -0.13)
    for image in images[:2]:
        for order in permutations(range(4)):
            yield after(jitter, image, STRENGTHS, factors, order), reference(image, STRENGTHS, factors, order)


def _draws(count: int, seed: int) -> Iterator[Drawn | Counted]:
    """Yield our factors and torchvision's, and how often each order is drawn; see `Op.draws`."""
    from torchvision.transforms import ColorJitter

    color = ColorJitter(*STRENGTHS)
    ranges = (color.brightness, color.contrast, color.saturation, color.hue)
    theirs = [ColorJitter.get_params(*ranges) for _ in range(count)]
    ours = [draw(*STRENGTHS, 0.8, seed, 0, sample, 0) for sample in range(count)]
    for k, check in enumerate(("brightness factor", "contrast factor", "saturation factor", "hue factor")):
        strength = f"strength {STRENGTHS[k]}"
        yield Drawn(check, strength, [factors[k] for _, factors, _ in ours], [drawn[k + 1] for drawn in theirs])
    orders = Counter(tuple(map(int, order)) for _, _, order in ours)
    yield Counted("jitter order", "24 orders", [orders[order] for order in permutations(range(4))], [count / 24] * 24)


def _up_to(step: int, settings: Jitter) -> Jitter | None:
    """Return the settings with the steps after `step` switched off, or None if no step is left; see `Op.steps`."""
    part = settings._replace(**dict.fromkeys(Jitter._fields[step + 1 : P], 0.0))
    return part if any(part[:P]) else None


JITTER = Op(
    name="jitter",
    stream=STREAM,
    settings=Jitter,
    check=check,
    apply=apply,
    reference=_reference,
    drawn=drawn,
    columns=lambda settings: COLUMNS,
    on_device=_on_device,
    on_planes=True,
    torchvision=_torchvision,
    pixels={
        "brightness": (partial(_step_pixels, BRIGHTNESS, FACTORS), 1),
        "contrast": (partial(_step_pixels, CONTRAST, FACTORS), 1),
        "saturation": (partial(_step_pixels, SATURATION, FACTORS), 1),
        "hue": (partial(_step_pixels, HUE, TURNS), 2),
        "jitter in every order": (_pixels, 2),
    },
    applied=lambda p, *key: draw(*STRENGTHS, p, *key)[0],
    draws=_draws,
    steps={
        "brightness": partial(_up_to, BRIGHTNESS),
        "contrast": partial(_up_to, CONTRAST),
        "saturation": partial(_up_to, SATURATION),
        "hue": partial(_up_to, HUE),
    },
)
