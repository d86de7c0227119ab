"""Named tuples of views, each with its source. A recipe says `views = "simclr-cifar"` and a size in pixels."""

from collections.abc import Callable

from loaders.names import look_up
from loaders.views import Blur, Jitter, View


def preset(name: str, size: int) -> tuple[View, ...]:
    """The views of that name at a size in pixels. ValueError with the known names, the nearest first, if unknown."""
    return look_up("views", name, PRESETS)(size)


def _simclr_imagenet(size: int) -> tuple[View, ...]:
    """Chen et al. 2020, appendix A, at strength 1: jitter 0.8 s, blur with a kernel of a tenth of the image."""
    kernel = int(0.1 * size) // 2 * 2 + 1
    view = View(size, jitter=Jitter(0.8, 0.8, 0.8, 0.2, p=0.8), gray=0.2, blur=Blur(0.1, 2.0, kernel, p=0.5))
    return view, view


def _simclr_cifar(size: int) -> tuple[View, ...]:
    """Chen et al. 2020, appendix B.9: strength 0.5, no blur."""
    view = View(size, jitter=Jitter(0.4, 0.4, 0.4, 0.1, p=0.8), gray=0.2)
    return view, view


def _simclr_gray(size: int) -> tuple[View, ...]:
    """Ours, for grey images of one centred object: larger crops, brightness and contrast only."""
    view = View(size, scale=(0.2, 1.0), jitter=Jitter(0.4, 0.4, 0.0, 0.0, p=0.8))
    return view, view


def _crops(size: int) -> tuple[View, ...]:
    """Two random resized crops with flips: what stock FFCV can do of SimCLR's views."""
    return View(size), View(size)


def _supervised(size: int) -> tuple[View, ...]:
    """One random resized crop with a flip, as torchvision's reference for ImageNet."""
    return (View(size),)


def _supervised_small(size: int) -> tuple[View, ...]:
    """Ours, for images of about 32 pixels: a mild crop with a flip."""
    return (View(size, scale=(0.5, 1.0)),)


def _eval(size: int) -> tuple[View, ...]:
    """The centre crop of torchvision's reference: 224 of a shorter side of 256. Up to 64 pixels the whole image."""
    return (View(size, scale=None, resize=size if size <= 64 else round(size * 256 / 224), flip=0.0),)


PRESETS: dict[str, Callable[[int], tuple[View, ...]]] = {
    "simclr-imagenet": _simclr_imagenet,
    "simclr-cifar": _simclr_cifar,
    "simclr-gray": _simclr_gray,
    "crops": _crops,
    "supervised": _supervised,
    "supervised-small": _supervised_small,
    "eval": _eval,
}
