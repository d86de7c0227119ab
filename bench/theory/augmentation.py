"""Two views of a vector by random masks: complementary as in Wen and Li, independent, correlated, or no masks."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twoview.loaders import rng

Kind = Literal["complementary", "independent", "correlated", "none"]


@dataclass(frozen=True)
class Augmentation:
    """The views x+ = D x / P(D_i = 1) and x++ = D' x / P(D'_i = 1), where D and D' are random diagonal 0/1 matrices.

    Their entries are drawn independently for each coordinate.
    kind: complementary: D' = I - D, so that at keep 1/2 the views are 2 D x and 2 (I - D) x (Wen and Li). independent:
    D' is drawn like D, independently of it. correlated: D_i and D'_i have the correlation `correlation`, where 0 is
    independent, 1 the same mask, and -1 at keep 1/2 complementary. none: both views are x.
    keep: P(D_i = 1), in (0, 1). Raises ValueError, naming the argument and its value, if one is invalid.
    """

    kind: Kind = "complementary"
    keep: float = 0.5
    correlation: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("complementary", "independent", "correlated", "none"):
            raise ValueError(f"kind must be complementary, independent, correlated or none, got {self.kind!r}")
        if not 0 < self.keep < 1:
            raise ValueError(f"keep must be in (0, 1), got {self.keep}")
        if self.kind != "correlated" and self.correlation:
            raise ValueError(f"correlation must be 0 for masks of kind {self.kind}, got {self.correlation}")
        # The lowest possible correlation of two 0/1 variables that are 1 with probability keep.
        lowest = -min(self.keep / (1 - self.keep), (1 - self.keep) / self.keep)
        if not lowest - 1e-12 <= self.correlation <= 1:
            raise ValueError(f"correlation must be in [{lowest:.3f}, 1] for keep {self.keep}, got {self.correlation}")

    @property
    def keeps(self) -> tuple[float, float]:
        """P(D_i = 1) and P(D'_i = 1)."""
        if self.kind == "none":
            return 1.0, 1.0
        return self.keep, 1 - self.keep if self.kind == "complementary" else self.keep

    @property
    def overlap(self) -> float:
        """E[D_i D'_i] / (E[D_i] E[D'_i]): the factor of the diagonal of E[x x'] in the cross moment of the views."""
        if self.kind == "complementary":
            return 0.0
        # E[D_i D'_i] = keep^2 + correlation keep (1 - keep), over keep^2.
        return 1 + self.correlation * (1 - self.keep) / self.keep

    def views(self, x: np.ndarray, samples: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the views x+ and x++ of x, float32 (n, d1) each.

        samples: int64 (n,), the sample numbers, which together with the seed fix the masks.
        """
        if self.kind == "none":
            return x, x
        drawn = rng.words(np.uint64(seed), 0, samples, 0, rng.MASK, x.shape[1])
        keep, both = self.keep, self.overlap * self.keep * self.keeps[1]
        first = drawn < _word(keep)
        if self.kind == "complementary":
            second = ~first
        elif self.kind == "independent":
            second = rng.words(np.uint64(seed), 0, samples, 1, rng.MASK, x.shape[1]) < _word(keep)
        else:  # one number decides both masks: below `both` D and D' keep, then up to `keep` only D, and then only D'
            second = (drawn < _word(both)) | ((drawn >= _word(keep)) & (drawn < _word(2 * keep - both)))
        return _scaled(x, first, self.keeps[0]), _scaled(x, second, self.keeps[1])

    def cross_moment(self, second_moment: np.ndarray) -> np.ndarray:
        """Return E[x++ x+'], (d1, d1), for the data's E[x x'], (d1, d1)."""
        return second_moment + (self.overlap - 1) * np.diag(np.diag(second_moment))

    def view_moment(self, second_moment: np.ndarray, view: int) -> np.ndarray:
        """Return E[x+ x+'] (view 0) or E[x++ x++'] (view 1), (d1, d1), for the data's E[x x'], (d1, d1)."""
        return second_moment + (1 / self.keeps[view] - 1) * np.diag(np.diag(second_moment))


def _word(probability: float) -> np.uint32:
    """Return the number below which a random 32-bit word lies with this probability."""
    return np.uint32(min(max(math.floor(probability * 2**32), 0), 2**32 - 1))


def _scaled(x: np.ndarray, kept: np.ndarray, keep: float) -> np.ndarray:
    """Return x with the coordinates that are not kept set to 0, and the others divided by the keep probability."""
    scaled: np.ndarray = x * (kept * np.float32(1 / keep))
    return scaled
