"""Which patches of a view a method gets to see: drawn by the loader, so that a resumed run sees the same ones.

Masks depend on (seed, epoch, sample, view) alone, as pixels do (`loaders/rng.py`).
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

TRIES = 10  # blocks in a row that do not fit, after which the rest is masked patch by patch


@dataclass(frozen=True)
class Mask:
    """Which patches of one view are kept: always `kept` of them. Data, no code.

    view: the view's number among the loader's. rows, columns: of its grid of patches, numbered row by row.
    kind: "random", every set of `kept` patches equally likely (MAE, MSN); or "block", the others covered by rectangles
    (BEiT, data2vec), each of at least `smallest` patches while so many are wanted, and of an aspect ratio (height /
    width) log-uniform in `aspect`.
    ValueError for a mask that cannot be drawn.
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
            raise ValueError(f"a mask's view must be at least 0, not {self.view}")
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a mask's rows and columns must be at least 1, not {self.rows} and {self.columns}")
        if not 1 <= self.kept <= self.patches:
            raise ValueError(f"a mask's kept must be 1 .. {self.patches} patches, not {self.kept}")
        if self.kind not in ("random", "block"):
            raise ValueError(f"a mask's kind must be random or block, not {self.kind!r}")
        if self.smallest < 1:
            raise ValueError(f"a mask's smallest block must be at least 1 patch, not {self.smallest}")
        if not 1e-6 <= self.aspect[0] <= self.aspect[1] <= 1e6:
            raise ValueError(f"a mask's aspect must be from 1e-6 to 1e6 and in ascending order, not {self.aspect}")

    @property
    def patches(self) -> int:
        return int(self.rows) * int(self.columns)


def view_mask(
    views: Sequence[View], view: int, patch: int, kept: float, kind: Kind = "random", smallest: int = 16
) -> Mask:
    """The mask of a view that keeps a share of its square patches, rounded down to whole ones.

    patch: side in pixels. kept: above 0, at most 1. ValueError naming what cannot be.
    """
    size = views[view].size
    if not 0 < kept <= 1:
        raise ValueError(f"the share of patches kept must be above 0 and at most 1, not {kept}")
    if patch < 1 or size % patch:
        raise ValueError(f"a view of {size} pixels is not divisible into patches of {patch}")
    side = size // patch
    count = math.floor(side**2 * kept + 1e-9)  # 1e-9: 5 that came out as 4.999...
    if count == 0:
        raise ValueError(f"a share of {kept} leaves none of {side**2} patches")
    return Mask(view, side, side, count, kind, smallest)


def checked(masks: Any, views: Sequence[View]) -> tuple[Mask, ...]:
    """The masks. ValueError for what is none, and for one whose view is not there, or has no such grid of patches."""
    given = checks.several("masks", masks, Mask)
    for mask in given:
        if mask.view >= len(views):
            raise ValueError(f"a mask's view must be below {len(views)}, the number of views, not {mask.view}")
        size = views[mask.view].size
        if size % mask.rows or size % mask.columns:
            raise ValueError(f"a view of {size} pixels is not divisible into {mask.rows} x {mask.columns} patches")
    return given


def draw(mask: Mask, samples: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """int64 (B, kept): the numbers of the patches kept, ascending, for the sample numbers int64 (B,)."""
    key = np.uint64(int(seed) & 0xFFFFFFFFFFFFFFFF)
    out = np.empty((len(samples), mask.kept), np.int64)
    if mask.kind == "random":
        _draw_random(out, mask.patches, key, epoch, samples, mask.view)
    else:
        _draw_blocks(out, mask.rows, mask.columns, mask.smallest, *mask.aspect, key, epoch, samples, mask.view)
    return out


@kernel
def _draw_random(out: np.ndarray, patches: int, seed: np.uint64, epoch: int, samples: np.ndarray, view: int) -> None:
    """Selection sampling (Knuth, TAOCP 3.4.2, algorithm S): each patch in turn, with the chance that it has left."""
    kept = out.shape[1]
    for i in range(len(samples)):
        chosen, patch = 0, 0
        while chosen < kept:
            words = rng.philox(seed, samples[i], epoch, (view << 16) | rng.MASK, patch // 4)
            for word in words:  # of 32 bits each
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
    """BEiT's blocks (Bao et al. 2022, algorithm 1, and its code's `MaskingGenerator`).

    That code stops short of the wanted number where ten blocks in a row do not fit; here what is then missing is
    masked patch by patch, so that all images of a batch keep equally many.
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
