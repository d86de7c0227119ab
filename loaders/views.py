"""What a view of an image is: a crop, its size, and the ops on it with their probabilities. Data, no code.

A method asks for a tuple of views; only the loader knows how they are made. The ops run in the order of
torchvision's SimCLR-style pipelines: resized crop, flip, then those of `View`'s fields in their order.
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
    """One view of an image.

    size: side of the square output, in pixels.
    scale: range of the crop's share of the image area. None means no random resized crop: the shorter side is
        resized to `resize` pixels, and the center is cut, or what `padding` says.
    ratio: range of the crop's aspect ratio (width / height), drawn log-uniformly.
    resize: shorter side before the cut, in pixels; only read where scale is None. With padding, 0 means size.
    padding: where scale is None: pixels of black that are put on each side of the image, of which a random box is then
        cut. `View(32, scale=None, padding=4)` is torchvision's `RandomCrop(32, 4)` for images of 32 pixels, and for
        others behind its `Resize(32)`. None means the center crop.
    flip: probability of a horizontal flip.
    jitter, blur, solarize, erase: None means never.
    gray: probability of three equal channels.
    interpolation: "bilinear" or "bicubic", both antialiased as PIL does it.
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


# By field, in the order in which they run.
OPS: dict[str, Op] = {
    field: hint.__metadata__[0]
    for field, hint in get_type_hints(View, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
_PROBABILITIES = ("flip", *(name for name, op in OPS.items() if op.settings is float))


def ops_of(view: View) -> dict[str, Any]:
    """The settings of the ops that the view has, by field."""
    return {name: getattr(view, name) for name in OPS if getattr(view, name)}


def without_ops(view: View) -> View:
    """The crop, resize and flip alone."""
    off: dict[str, Any] = {name: op.off for name, op in OPS.items()}
    return replace(view, **off)


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
