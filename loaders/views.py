"""The description of a view of an image: a crop, its size, and the ops (augmentations) with their probabilities.

A method asks for a tuple of views, and only the loader knows how they are made. The ops run in the order of
torchvision's SimCLR-style pipelines: resized crop, flip, then the ops in the order of `View`'s fields.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, get_type_hints

from twoview.loaders import checks
from twoview.loaders.ops.blur import BLUR
from twoview.loaders.ops.blur import Blur as Blur
from twoview.loaders.ops.erase import ERASE
from twoview.loaders.ops.erase import Erase as Erase
from twoview.loaders.ops.gray import GRAY
from twoview.loaders.ops.jitter import JITTER
from twoview.loaders.ops.jitter import Jitter as Jitter
from twoview.loaders.ops.op import Op
from twoview.loaders.ops.solarize import SOLARIZE
from twoview.loaders.ops.solarize import Solarize as Solarize


@dataclass(frozen=True)
class View:
    """One view of an image: how it is cropped, resized and augmented.

    size: side of the square output, in pixels.
    scale: range of the crop's fraction of the image area. None means no random resized crop: the shorter side is
        resized to `resize` pixels, and then the center is cut out, or a random box if `padding` is given.
    ratio: range of the crop's aspect ratio (width / height), drawn log-uniformly.
    resize: length of the shorter side before the cut, in pixels; only used if scale is None. With padding, 0 means
        `size`.
    padding: only if scale is None: the number of black pixels added on each side of the image, before a random box is
        cut out. `View(32, scale=None, padding=4)` is torchvision's `RandomCrop(32, 4)` for images of 32 pixels, and
        `Resize(32)` followed by it for others. None means a center crop.
    flip: probability of a horizontal flip.
    jitter, blur, solarize, erase: the settings of these ops; None means that the op is never applied.
    gray: probability of conversion to gray, that is, three equal channels.
    interpolation: "bilinear" or "bicubic", both antialiased in the same way as PIL does it.
    """

    size: int
    scale: tuple[float, float] | None = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    resize: int = 0
    padding: int | None = None
    flip: float = 0.5
    jitter: Annotated[Jitter | None, JITTER] = None
    gray: Annotated[float, GRAY] = 0.0
    blur: Annotated[Blur | None, BLUR] = None
    solarize: Annotated[Solarize | None, SOLARIZE] = None
    erase: Annotated[Erase | None, ERASE] = None
    interpolation: str = "bilinear"


# Name of a field of `View` -> its op, in the order in which the ops run.
OPS: dict[str, Op] = {
    field: hint.__metadata__[0]
    for field, hint in get_type_hints(View, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
_PROBABILITIES = ("flip", *(name for name, op in OPS.items() if op.settings is float))


def ops_of(view: View) -> dict[str, Any]:
    """Return field -> settings for the ops that the view has."""
    return {name: getattr(view, name) for name in OPS if getattr(view, name)}


def without_ops(view: View) -> View:
    """Return the view with its crop, resize and flip, but without any op."""
    off: dict[str, Any] = {name: op.off for name, op in OPS.items()}
    return replace(view, **off)


def checked(views: Any) -> tuple[View, ...]:
    """Return the views as a tuple, with fields that have been checked one by one.

    Raises ValueError, naming the field, if a value has the wrong type, is not finite or is too large. Combinations of
    values that make a view impossible are found later, by `decode.view_table`.
    """
    given = checks.at_least_one("views", checks.several("views", views, View))
    return tuple(_checked(view) for view in given)


def _checked(view: View) -> View:
    """Return the view, checked, and with its sizes as Python integers, since products of NumPy's may overflow."""
    size = checks.whole("a view's size", view.size, 1)
    resize = checks.whole("a view's resize", view.resize, 0, 2**31)
    probabilities = tuple(getattr(view, name) for name in _PROBABILITIES)
    checks.numbers(f"a view's {' and '.join(_PROBABILITIES)}", probabilities, len(probabilities))
    checks.numbers("a view's ratio", view.ratio, 2)
    if view.scale is not None:
        checks.numbers("a view's scale", view.scale, 2)
        if view.scale[1] > 1:
            raise ValueError(f"a view's scale must be shares of the image, at most 1, got {view.scale}")
    for name, op in OPS.items():
        settings = getattr(view, name)
        if op.settings is not float and settings is not None:
            if not isinstance(settings, op.settings):
                raise ValueError(f"a view's {name} must be of type {op.settings.__name__} or None, got {settings!r}")
            checks.numbers(f"a view's {name}", settings, op.width)
    padding = view.padding if view.padding is None else checks.whole("a view's padding", view.padding, 0, size)
    return replace(view, size=size, resize=resize, padding=padding)
