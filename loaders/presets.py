"""Presets: named tuples of views, each with its source. A recipe says `views = "simclr-cifar"` and a size in pixels.

The ops (augmentations) always run in the loader's order (`loaders/views.py`). Where a source flips last, as the code of
SimSiam and of solo-learn does, the views are the same, because every op treats left and right alike.
"""

from collections.abc import Callable
from dataclasses import replace

from twoview.loaders.names import look_up
from twoview.loaders.views import Blur, Jitter, Solarize, View

# Sizes in pixels used for ImageNet: the shorter side is resized to 256 before a crop of 224 is cut, and MSN's focal
# views have 96 pixels if its other views have 224. Presets of other sizes keep these ratios.
RESIZED, FOCAL, FULL = 256, 96, 224


def preset(name: str, size: int) -> tuple[View, ...]:
    """Return the views of a preset at a size in pixels.

    Raises ValueError, with the known names or the nearest of them, if there is no such preset.
    """
    return look_up("views", name, PRESETS)(size)


def _blur(size: int, p: float) -> Blur:
    """Return the blur for sources whose code calls PIL's Gaussian blur, which has no kernel size.

    23 taps are enough, since no tap beyond the 23rd changes a value. PIL approximates the Gaussian by three box
    filters; this blur is the Gaussian itself.
    """
    return Blur(0.1, 2.0, min(23, 2 * size - 1), p)


def _byol_view(size: int, blurred: float, solarized: float) -> View:
    """Return the view introduced by BYOL: weak saturation jitter, bicubic resize, and these blur and solarize rates."""
    jitter, solarize = Jitter(0.4, 0.4, 0.2, 0.1, p=0.8), Solarize(128, solarized)
    return View(size, jitter=jitter, gray=0.2, blur=_blur(size, blurred), solarize=solarize, interpolation="bicubic")


def _simclr_imagenet(size: int) -> tuple[View, ...]:
    """Chen et al. 2020, appendix A, at strength s = 1: jitter of 0.8 s, blur with a kernel of a tenth of the image."""
    kernel = int(0.1 * size) // 2 * 2 + 1
    view = View(size, jitter=Jitter(0.8, 0.8, 0.8, 0.2, p=0.8), gray=0.2, blur=Blur(0.1, 2.0, kernel, p=0.5))
    return view, view


def _simclr_cifar(size: int) -> tuple[View, ...]:
    """Chen et al. 2020, appendix B.9: strength 0.5, no blur. lightly's CIFAR-10 benchmark uses the same."""
    view = View(size, jitter=Jitter(0.4, 0.4, 0.4, 0.1, p=0.8), gray=0.2)
    return view, view


def _kobak_cifar(size: int) -> tuple[View, ...]:
    """github.com/dkobak/simclr-cifar10: simclr-cifar with crops of at least 1/5 of the area, 1/10 of the views gray."""
    return tuple(replace(view, scale=(0.2, 1.0), gray=0.1) for view in _simclr_cifar(size))


def _kobak_cifar_local(size: int) -> tuple[View, ...]:
    """Our own, after the multi-crop of Caron et al. 2020 (SwAV): kobak-cifar and two local crops of half the side."""
    views = _kobak_cifar(size)
    return views + tuple(replace(view, size=size // 2, scale=(0.05, 0.2)) for view in views)


def _simclr_gray(size: int) -> tuple[View, ...]:
    """Our own, for gray images of one centered object: larger crops, and jitter of brightness and contrast only."""
    view = View(size, scale=(0.2, 1.0), jitter=Jitter(0.4, 0.4, 0.0, 0.0, p=0.8))
    return view, view


def _simclr_gray_strong(size: int) -> tuple[View, ...]:
    """Our own, for small gray images of one object: twice the jitter of simclr-gray, a fifth of the views solarized.

    Of the views tried at equal training time on Fashion-MNIST, these gave the highest accuracy.
    """
    view = View(size, scale=(0.3, 1.0), jitter=Jitter(0.8, 0.8, 0.0, 0.0, p=0.8), solarize=Solarize(128, 0.2))
    return view, view


def _kernel_infonce(size: int) -> tuple[View, ...]:
    """Tan et al. 2024, official code: simclr-cifar up to 32 pixels, simclr-imagenet above (Tiny ImageNet)."""
    return _simclr_cifar(size) if size <= 32 else _simclr_imagenet(size)


def _simsiam(size: int) -> tuple[View, ...]:
    """Chen and He 2021, official code; inferred to be the views of Lee 2025, whose training schedule is the same."""
    jitter = Jitter(0.4, 0.4, 0.4, 0.1, p=0.8)
    view = View(size, scale=(0.2, 1.0), jitter=jitter, gray=0.2, blur=_blur(size, p=0.5))
    return view, view


def _vicreg(size: int) -> tuple[View, ...]:
    """Bardes et al. 2022, official code, as in Barlow Twins: one view always blurred, one rarely, but solarized."""
    return _byol_view(size, blurred=1.0, solarized=0.0), _byol_view(size, blurred=0.1, solarized=0.2)


def _byol(size: int) -> tuple[View, ...]:
    """Grill et al. 2020, appendix C, quoted from memory: the same views as vicreg, since VICReg took them from BYOL."""
    return _vicreg(size)


def _msn(size: int) -> tuple[View, ...]:
    """Assran et al. 2022, official code, ViT-S config: a target, a random view, ten focal views (96, not 224)."""
    large, focal = _msn_pair(size, round(size * FOCAL / FULL), Jitter(0.4, 0.4, 0.4, 0.1, p=0.8))
    return (large,) * 2 + (focal,) * 10


def _msn_cifar(size: int) -> tuple[View, ...]:
    """Our own: msn for about 32 pixels, without blur, and with one focal view of half the side.

    Half the side is chosen because it is divisible into patches of 4 pixels, too.
    """
    large, focal = _msn_pair(size, size // 2, Jitter(0.4, 0.4, 0.4, 0.1, p=0.8))
    return replace(large, blur=None), replace(large, blur=None), replace(focal, blur=None)


def _lightly_msn(size: int) -> tuple[View, ...]:
    """lightly's Imagenette benchmark of MSN and PMSN: strength 1, focal views of 64 pixels, others of 128."""
    large, focal = _msn_pair(size, size // 2, Jitter(0.8, 0.8, 0.8, 0.2, p=0.8))
    return large, large, focal


def _msn_pair(size: int, focal: int, jitter: Jitter) -> tuple[View, View]:
    """Return MSN's two kinds of view: one of a large part of the image, and a focal view of a small part."""
    large = View(size, scale=(0.3, 1.0), jitter=jitter, gray=0.2, blur=_blur(size, p=0.5))
    return large, replace(large, size=focal, scale=(0.05, 0.3), blur=_blur(focal, p=0.5))


def _mae(size: int) -> tuple[View, ...]:
    """He et al. 2022, official code: one bicubic crop of at least a fifth of the image's area, with a flip."""
    return (View(size, scale=(0.2, 1.0), interpolation="bicubic"),)


def _data2vec(size: int) -> tuple[View, ...]:
    """Baevski et al. 2022, official code, as in BEiT: jitter (always, without hue), a bicubic crop, a flip."""
    return (View(size, jitter=Jitter(0.4, 0.4, 0.4, 0.0, p=1.0), interpolation="bicubic"),)


def _solo_simclr_cifar(size: int) -> tuple[View, ...]:
    """solo-learn's CIFAR recipe for SimCLR: strength 1, with blur, bicubic resize."""
    jitter = Jitter(0.8, 0.8, 0.8, 0.2, p=0.8)
    view = View(size, jitter=jitter, gray=0.2, blur=_blur(size, p=0.5), interpolation="bicubic")
    return view, view


def _solo_vicreg_cifar(size: int) -> tuple[View, ...]:
    """solo-learn's CIFAR recipe for VICReg: crops of at least 1/5 of the area, no blur, solarize probability 0.1."""
    view = replace(_byol_view(size, blurred=0.0, solarized=0.1), scale=(0.2, 1.0))
    return view, view


def _solo_byol_cifar(size: int) -> tuple[View, ...]:
    """solo-learn's CIFAR recipe for BYOL and Barlow Twins: no blur, solarize probability 0.2 in the second view."""
    return _byol_view(size, blurred=0.0, solarized=0.0), _byol_view(size, blurred=0.0, solarized=0.2)


def _crops(size: int) -> tuple[View, ...]:
    """Two random resized crops with flips: the part of SimCLR's views that stock FFCV can do."""
    return View(size), View(size)


def _crops_msn(size: int) -> tuple[View, ...]:
    """Only the crops and flips of msn: the part of its views that stock FFCV can do."""
    return tuple(View(view.size, view.scale) for view in _msn(size))


def _supervised(size: int) -> tuple[View, ...]:
    """One random resized crop with a flip, as in torchvision's reference training for ImageNet."""
    return (View(size),)


def _supervised_small(size: int) -> tuple[View, ...]:
    """Our own, for images of about 32 pixels: a mild crop with a flip."""
    return (View(size, scale=(0.5, 1.0)),)


def _flip(size: int) -> tuple[View, ...]:
    """Our own, for supervised training of a few epochs on small images: the whole image with a flip."""
    return (View(size, scale=None, resize=size),)


def _supervised_cifar(size: int) -> tuple[View, ...]:
    """He et al. 2016, section 4.2: padding by 4 pixels (of 32) on each side, a random crop, a flip."""
    return (View(size, scale=None, padding=size // 8),)


def _eval(size: int) -> tuple[View, ...]:
    """torchvision's evaluation view: resize to 256, center crop of 224. Up to 64 pixels it is the whole image."""
    return (View(size, scale=None, resize=size if size <= 64 else round(size * RESIZED / FULL), flip=0.0),)


PRESETS: dict[str, Callable[[int], tuple[View, ...]]] = {
    "simclr-imagenet": _simclr_imagenet,
    "simclr-cifar": _simclr_cifar,
    "kobak-cifar": _kobak_cifar,
    "kobak-cifar-local": _kobak_cifar_local,
    "simclr-gray": _simclr_gray,
    "simclr-gray-strong": _simclr_gray_strong,
    "kernel-infonce": _kernel_infonce,
    "simsiam": _simsiam,
    "vicreg": _vicreg,
    "byol": _byol,
    "msn": _msn,
    "msn-cifar": _msn_cifar,
    "lightly-msn": _lightly_msn,
    "mae": _mae,
    "data2vec": _data2vec,
    "solo-simclr-cifar": _solo_simclr_cifar,
    "solo-vicreg-cifar": _solo_vicreg_cifar,
    "solo-byol-cifar": _solo_byol_cifar,
    "crops": _crops,
    "crops-msn": _crops_msn,
    "supervised": _supervised,
    "supervised-small": _supervised_small,
    "flip": _flip,
    "supervised-cifar": _supervised_cifar,
    "eval": _eval,
}
