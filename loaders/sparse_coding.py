"""The data model of Wen and Li: sparse features and dense noise, x = M z + xi, a pure function of (seed, sample).

M is d1 x d with orthonormal columns, z is sparse with symmetric signs, and xi is dense Gaussian noise. The model and
its rates are from "Toward Understanding the Feature Learning Process of Self-supervised Contrastive Learning" (ICML
2021), quoted from memory. The code of Pokle et al. ("Contrasting the landscape of contrastive and non-contrastive
learning", AISTATS 2022, `data_model/gen_sparse_coding_data.py`) has the same model, but uses as the standard deviation
of the noise what Wen and Li use as its variance.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from twoview.loaders import rng
from twoview.loaders.arrays import write_arrays
from twoview.loaders.limits import SAMPLES, WIDTH


@dataclass(frozen=True)
class SparseCoding:
    """The distribution of x = M z + xi.

    d: number of features, the dimension of z. d1: dimension of x, at least d.
    sparsity: P(z_j != 0), in (0, 1]; None means log(log(d)) / d.
    noise: the noise level of xi, at least 0; None means sqrt(log(d)) / d. noise_is: whether this level is the variance
    of each coordinate (Wen and Li) or its standard deviation (Pokle et al.). seed: 64 bits.
    Raises ValueError, naming the argument and its value, if one is out of range.
    """

    d: int = 64
    d1: int = 1024
    sparsity: float | None = None
    noise: float | None = None
    noise_is: Literal["variance", "deviation"] = "variance"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.d < 1:
            raise ValueError(f"d must be at least 1, got {self.d}")
        WIDTH.check_setting(self.d1, "d1")
        if self.d1 < self.d:
            raise ValueError(f"d1 must be at least d ({self.d}), got {self.d1}")
        if self.sparsity is None and self.d < 3:
            raise ValueError(f"d is {self.d}, for which log(log(d)) / d is not a probability: sparsity must be given")
        if self.sparsity is not None and not 0 < self.sparsity <= 1:
            raise ValueError(f"sparsity must be above 0 and at most 1, got {self.sparsity}")
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be finite and not negative, got {self.noise}")
        if self.noise_is not in ("variance", "deviation"):
            raise ValueError(f"noise_is must be variance or deviation, got {self.noise_is!r}")

    @property
    def active(self) -> float:
        """The probability P(z_j != 0) that a feature is active."""
        return math.log(math.log(self.d)) / self.d if self.sparsity is None else self.sparsity

    @property
    def variance(self) -> float:
        """The variance of each coordinate of xi."""
        level = math.sqrt(math.log(self.d)) / self.d if self.noise is None else self.noise
        return level if self.noise_is == "variance" else level**2

    @cached_property
    def dictionary(self) -> np.ndarray:
        """The dictionary M, float32 (d1, d): the Q factor in the QR decomposition of a random Gaussian matrix."""
        gaussian = rng.normals(np.uint64(self.seed), 0, np.arange(self.d1), 0, rng.DICTIONARY, self.d)
        return np.linalg.qr(gaussian.astype(np.float64))[0].astype(np.float32)

    @property
    def second_moment(self) -> np.ndarray:
        """The second moment E[x x'] = P(z_j != 0) M M' + variance I, float64 (d1, d1)."""
        dictionary = self.dictionary.astype(np.float64)
        return self.active * dictionary @ dictionary.T + self.variance * np.eye(self.d1)

    def latents(self, samples: np.ndarray) -> np.ndarray:
        """Return z for these sample numbers, int64 (n,), as float32 (n, d) with values -1, 0 and 1."""
        # One uniform number u per feature: z_j is 1 for u < p / 2, -1 for p / 2 <= u < p, where p = P(z_j != 0).
        key = np.uint64(self.seed)
        below = rng.words(key, 0, samples, 0, rng.LATENT, self.d) / 2.0**32
        return np.where(below < self.active / 2, 1, np.where(below < self.active, -1, 0)).astype(np.float32)

    def noises(self, samples: np.ndarray) -> np.ndarray:
        """Return xi for these sample numbers, int64 (n,), as float32 (n, d1)."""
        gaussian = rng.normals(np.uint64(self.seed), 0, samples, 0, rng.NOISE, self.d1)
        gaussian *= np.float32(math.sqrt(self.variance))
        return gaussian

    def x(self, samples: np.ndarray) -> np.ndarray:
        """Return x = M z + xi for these sample numbers, int64 (n,), as float32 (n, d1)."""
        return self.latents(samples) @ self.dictionary.T + self.noises(samples)


def write(path: Path, model: SparseCoding, count: int) -> None:
    """Write samples 0 .. count - 1 to a beton file (FFCV's format) with the fields x, float32 (d1,), and z, int8 (d,).

    Both are FFCV's NDArray fields. Raises ValueError if count is below 1 or above `limits.SAMPLES`.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    SAMPLES.check(count, str(path))
    samples = np.arange(count)
    write_arrays(path, {"x": model.x(samples), "z": model.latents(samples).astype(np.int8)})
