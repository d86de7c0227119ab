"""What a view of an image is: a crop, its size, and the ops on it with their probabilities. Data, no code.

A method asks for a tuple of views; only the loader knows how they are made. The ops run in the order of
torchvision's SimCLR-style pipelines: resized crop, flip, colour jitter, grey, blur, solarise.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from twoview.loaders import checks

T = TypeVar("T")


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


def checked(views: Any) -> tuple[View, ...]:
    """The views. ValueError, naming the field, where one is of another type, or a number is none or too large.

    What else makes a view impossible is refused with all views, by `decode.view_table`.
    """
    given = checks.at_least_one("views", checks.several("views", views, View))
    return tuple(_checked(view) for view in given)


def _checked(view: View) -> View:
    """The view, its sizes as Python's numbers: products of NumPy's small ones overflow."""
    size = checks.whole("a view's size", view.size, 1)
    resize = checks.whole("a view's resize", view.resize, 0, 2**31)
    checks.numbers("a view's flip and gray", (view.flip, view.gray), 2)
    checks.numbers("a view's ratio", view.ratio, 2)
    if view.scale is not None:
        checks.numbers("a view's scale", view.scale, 2)
        if view.scale[1] > 1:
            raise ValueError(f"a view's scale must be shares of the image, at most 1, got {view.scale}")
    for name, op, kind in (
        ("jitter", view.jitter, Jitter),
        ("blur", view.blur, Blur),
        ("solarize", view.solarize, Solarize),
    ):
        if op is not None:
            if not isinstance(op, kind):
                raise ValueError(f"a view's {name} must be a {kind.__name__} or None, got {op!r}")
            checks.numbers(f"a view's {name}", op, len(kind._fields))
    return replace(view, size=size, resize=resize)
