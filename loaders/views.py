"""What a view of an image is: a crop, its size, and the ops on it with their probabilities. Data, no code.

A method asks for a tuple of views; only the loader knows how they are made. The ops run in the order of
torchvision's SimCLR-style pipelines: resized crop, flip, colour jitter, grey, blur, solarise.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Jitter(NamedTuple):
    """Colour jitter, with the strengths of `torchvision.transforms.ColorJitter`, applied with probability p."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float


class Blur(NamedTuple):
    """Gaussian blur: sigma uniform in [sigma_min, sigma_max] pixels, `kernel` (odd) taps a side, with probability p."""

    sigma_min: float
    sigma_max: float
    kernel: int
    p: float


class Solarize(NamedTuple):
    """Inversion of all values at or above the threshold (0 to 255), applied with probability p."""

    threshold: int
    p: float


@dataclass(frozen=True)
class View:
    """One view of an image.

    size: side of the square output, in pixels.
    scale: range of the crop's share of the image area. None means no random crop: the shorter side is
        resized to `resize` pixels and the centre is cut.
    ratio: range of the crop's aspect ratio (width / height), drawn log-uniformly.
    resize: shorter side before the centre crop, in pixels; only read where scale is None.
    flip: probability of a horizontal flip.
    jitter, blur, solarize: None means never.
    gray: probability of three equal channels.
    interpolation: "bilinear" or "bicubic", both antialiased as PIL does it.
    """

    size: int
    scale: tuple[float, float] | None = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    resize: int = 0
    flip: float = 0.5
    jitter: Jitter | None = None
    gray: float = 0.0
    blur: Blur | None = None
    solarize: Solarize | None = None
    interpolation: str = "bilinear"
