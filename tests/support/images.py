"""Images for testing the ops: a photograph and random noise, at 32 and at 224 pixels."""

from functools import cache

import numpy as np
from PIL import Image
from skimage import data


@cache
def _photograph() -> np.ndarray:
    return np.ascontiguousarray(data.coffee())


def photograph() -> np.ndarray:
    """Return the photograph, uint8 (400, 600, 3)."""
    return _photograph().copy()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return noise, uint8 (height, width, 3), with all values equally likely."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def sample_image(kind: str, size: int) -> np.ndarray:
    """Return the reduced center of the photograph, or noise: uint8 (size, size, 3)."""
    if kind == "noise":
        return noise(size, size)
    return np.array(Image.fromarray(photograph()).resize((size, size), Image.Resampling.LANCZOS, (100, 0, 500, 400)))


IMAGES = [(kind, size) for kind in ("photograph", "noise") for size in (32, 224)]


def worst(ours: np.ndarray, theirs: np.ndarray) -> int:
    """Return the largest difference in gray levels."""
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())
