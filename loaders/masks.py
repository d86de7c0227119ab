"""Masks: which patches of a view a method gets to see, as in MAE. The loader draws them.

Like pixels, masks depend only on (seed, epoch, sample, view) (see `loaders/rng.py`), so a resumed run has the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from twoview.loaders import checks, rng
from twoview.loaders.kernels import kernel
from twoview.loaders.views import View

Kind = Literal["random", "block"]

TRIES = 10  # after this many blocks in a row that do not fit, the remaining patches are masked one by one


@dataclass(frozen=True)
class Mask:
    """The description of a mask: how to choose the `kept` patches of one view that remain visible.

    view: the view's number among the loader's views. rows, columns: size of its grid of patches, which are numbered row
    by row. kept: number of patches that are kept, the same for every image.
    kind: "random": every set of `kept` patches is equally likely (MAE, MSN). "block": the other patches are covered by
    rectangles (BEiT, data2vec). smallest, aspect: for "block", the least number of patches in a rectangle, as long as
    that many are still to be masked, and the range of its aspect ratio (height / width), which is log-uniform.
    Raises ValueError if the mask cannot be drawn.
    """

    view: int
    rows: int
    columns: int
    kept: int
    kind: Kind = "random"
    smallest: int = 16
    aspect: tuple[float, float] = (0.3, 1 / 0.3)

    def __post_init__(self) -> None:
        for name in ("view", "rows", "columns", "kept", "smallest"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value >= 2**31:
                raise ValueError(f"a mask's {name} must be a whole number below 2 ** 31, got {value!r}")
        checks.numbers("a mask's aspect", self.aspect, 2)
        if self.view < 0:
            raise ValueError(f"a mask's view must be at least 0, got {self.view}")
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a mask's rows and columns must be at least 1, got {self.rows} and {self.columns}")
        if not 1 <= self.kept <= self.patches:
            raise ValueError(f"a mask's kept must be 1 .. {self.patches} patches, got {self.kept}")
        if self.kind not in ("random", "block"):
            raise ValueError(f"a mask's kind must be random or block, got {self.kind!r}")
        if self.smallest < 1:
            raise ValueError(f"a mask's smallest block must be at least 1 patch, got {self.smallest}")
        if not 1e-6 <= self.aspect[0] <= self.aspect[1] <= 1e6:
            raise ValueError(f"a mask's aspect must be from 1e-6 to 1e6 and in ascending order, got {self.aspect}")

    @property
    def patches(self) -> int:
        """The number of patches in the grid."""
        return int(self.rows) * int(self.columns)


def view_mask(
    views: Sequence[View], view: int, patch: int, kept: float, kind: Kind = "random", smallest: int = 16
) -> Mask:
    """Return a mask that keeps a fraction of the square patches of a view, rounded down to whole patches.

    view: the view's number among `views`. patch: side of a patch, in pixels. kept: the fraction, above 0 and at most 1.
    kind, smallest: see `Mask`. Raises ValueError, naming the value, if the mask cannot be made.
    """
    size = views[view].size
    if not 0 < kept <= 1:
        raise ValueError(f"the share of patches kept must be above 0 and at most 1, got {kept}")
    if patch < 1 or size % patch:
        raise ValueError(f"a view of {size} pixels is not divisible into patches of {patch}")
    side = size // patch
    count = math.floor(side**2 * kept + 1e-9)  # without 1e-9, a product of 4.999... instead of 5 would give 4
    if count == 0:
        raise ValueError(f"a share of {kept} leaves none of {side**2} patches")
    return Mask(view, side, side, count, kind, smallest)


def checked(masks: Any, views: Sequence[View]) -> tuple[Mask, ...]:
    """Return the masks as a tuple.

    Raises ValueError if one is not a `Mask`, its view does not exist, or the view's size does not divide into its grid.
    """
    given = checks.several("masks", masks, Mask)
    for mask in given:
        if mask.view >= len(views):
            raise ValueError(f"a mask's view must be below {len(views)}, the number of views, got {mask.view}")
        size = views[mask.view].size
        if size % mask.rows or size % mask.columns:
            raise ValueError(f"a view of {size} pixels is not divisible into {mask.rows} x {mask.columns} patches")
    return given


def draw(mask: Mask, samples: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Draw the mask for each of the samples. Returns the numbers of the kept patches, int64 (B, kept), ascending.

    samples: sample numbers, int64 (B,).
    """
    key = np.uint64(int(seed) & 0xFFFFFFFFFFFFFFFF)
    out = np.empty((len(samples), mask.kept), np.int64)
    if mask.kind == "random":
        _draw_random(out, mask.patches, key, epoch, samples, mask.view)
    else:
        _draw_blocks(out, mask.rows, mask.columns, mask.smallest, *mask.aspect, key, epoch, samples, mask.view)
    return out


@kernel
def _draw_random(out: np.ndarray, patches: int, seed: np.uint64, epoch: int, samples: np.ndarray, view: int) -> None:
    """Draw uniformly among all sets of patches, by selection sampling (Knuth, TAOCP 3.4.2, algorithm S).

    Each patch in turn is chosen with probability (number still to choose) / (number of patches left).
    out: int64 (B, kept), to be filled.
    """
    kept = out.shape[1]
    for i in range(len(samples)):
        chosen, patch = 0, 0
        while chosen < kept:
            words = rng.philox(seed, samples[i], epoch, (view << 16) | rng.MASK, patch // 4)
            for word in words:  # 32 random bits each
                if chosen < kept and word * np.uint64(patches - patch) >> np.uint64(32) < kept - chosen:
                    out[i, chosen] = patch
                    chosen += 1
                patch += 1


@kernel
def _draw_blocks(
    out: np.ndarray,
    rows: int,
    columns: int,
    smallest: int,
    aspect_min: float,
    aspect_max: float,
    seed: np.uint64,
    epoch: int,
    samples: np.ndarray,
    view: int,
) -> None:
    """Draw BEiT's blocks (Bao et al. 2022, algorithm 1, and `MaskingGenerator` in its code).

    BEiT's code masks fewer patches than wanted if ten blocks in a row do not fit. Here the missing patches are then
    masked one by one, so that all images of a batch keep the same number of patches. out: int64 (B, kept), to be
    filled.
    """
    wanted = rows * columns - out.shape[1]
    log_min, log_max = math.log(aspect_min), math.log(aspect_max)
    masked = np.empty((rows, columns), np.bool_)
    flat = masked.reshape(-1)
    for i in range(len(samples)):
        masked[:] = False
        left, failed, number = wanted, 0, 0
        while left > 0 and failed < TRIES:
            u_area = rng.uniform(seed, epoch, samples[i], view, rng.MASK, number)
            u_aspect = rng.uniform(seed, epoch, samples[i], view, rng.MASK, number + 1)
            u_top = rng.uniform(seed, epoch, samples[i], view, rng.MASK, number + 2)
            u_left = rng.uniform(seed, epoch, samples[i], view, rng.MASK, number + 3)
            number += 4
            failed += 1
            # The block's area is uniform in [smallest, left], its aspect ratio log-uniform, its corner uniform.
            area = smallest + (left - smallest) * u_area
            aspect = math.exp(log_min + (log_max - log_min) * u_aspect)
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height < rows and width < columns:
                y, x = int((rows - height + 1) * u_top), int((columns - width + 1) * u_left)
                block = masked[y : y + height, x : x + width]
                fresh = height * width - np.sum(block)
                if 0 < fresh <= left:
                    block[:] = True
                    left -= fresh
                    failed = 0
        # Mask what is missing by selection sampling among the patches that are still visible.
        visible = out.shape[1] + left
        patch = 0
        while left > 0:
            if not flat[patch]:
                if rng.uniform(seed, epoch, samples[i], view, rng.MASK, number + patch) * visible < left:
                    flat[patch] = True
                    left -= 1
                visible -= 1
            patch += 1
        out[i] = np.flatnonzero(~flat)
