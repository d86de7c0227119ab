"""The description of an op, `Op`: all that the rest of the suite knows about it. Each op's own file ends with one.

An op is an augmentation that changes a view (an image that has been cropped and resized), with some probability. `View`
in `loaders/views.py` has a field for each op; the ops run in the order of the fields. The description serves the loader
(`decode.py`), the views made on a device (`render.py`), the loader's reference implementation (`reference.py`),
the conformance card, the profile and the torchvision peer.

An op has settings: a NamedTuple of numbers, the last of which is the probability p, or p alone. The view table
(`decode.view_table`) holds the views as rows of numbers; the settings are the op's part of a row, all zero in a view
without the op.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Key = tuple[np.uint64, int, int, int]  # seed, epoch, sample and number of the view; see `rng.py`
Images = Sequence[np.ndarray]
Pairs = Iterator[tuple[np.ndarray, np.ndarray]]  # our image and torchvision's


class Drawn(NamedTuple):
    """Many draws of one parameter, ours and torchvision's, which should follow the same distribution.

    check: the parameter, as the conformance card names it. source: the setting it is drawn for, such as a strength.
    """

    check: str
    source: str
    ours: Sequence[float]
    theirs: Sequence[float]


class Counted(NamedTuple):
    """How often each outcome was drawn, and how often it is expected. check, source: see `Drawn`."""

    check: str
    source: str
    observed: Sequence[int]
    expected: Sequence[float]


def no_scratch(settings: Any, size: int) -> int:
    """Return 0: the op needs no scratch memory."""
    return 0


def no_draws(count: int, seed: int) -> Iterator[Drawn | Counted]:
    """Return no draws: the op has no parameters to compare with torchvision's."""
    return iter(())


@dataclass(frozen=True, kw_only=True)
class Op:
    """The description of an op, through which all other code uses it.

    name: the op's name in tables. stream: the op's number in the random number generator (`rng.py`).
    settings: the type of the settings, a NamedTuple class or float.
    check: (settings, size of the view in pixels) -> None. Raises ValueError if no such view can be made.

    apply: the CPU kernel (image, row, scratch, seed, epoch, sample, view), which draws the parameters and changes the
        image, uint8 (size, size, 3), in place. row: float64, the settings, with p above 0. scratch: uint8, as many
        bytes as `scratch(settings, size)` returns.
    reference: the reference implementation, (image, settings, key) -> a changed copy of the image. It uses torchvision
        or PIL if they are equal to the kernel bit for bit.

    drawn: a kernel (to, row, size, seed, epoch, sample, view) that draws the same parameters and writes what the device
        needs of them to `to`, int32 (columns,), which holds zeros. If the op is not applied, because p is 0 or by
        chance, it writes values that change nothing.
    columns: settings -> the number of those columns; for several views, the largest number is used.
    on_device: (settings of views that are made together, device) -> a function of the views and of what `drawn` wrote,
        int32 (B, columns), that returns the changed views. The views are uint8 (B, size, size, 3), or, if `on_planes`,
        three planes of whole numbers, float32 (B, size, size). The function must give the same bits as `apply` on any
        device, and torch.compile must make one graph of it.

    torchvision: settings -> torchvision's transform of PIL images, or, if `on_tensors`, of uint8 (3, size, size)
        tensors.

    pixels: name of a check on the conformance card -> (function of uint8 (size, size, 3) images that yields our
        result and torchvision's, number of gray levels by which the two may differ).
    applied: (p, *key) -> whether the op is applied, for the check of how often it is.
    draws: (count, seed) -> `count` draws of each parameter, and the same number of torchvision's from torch's global
        generator.
    steps: name of a step in the profile -> function from settings to those with only this step and the steps before it
        switched on, or to None if that leaves none of them.
    """

    name: str
    stream: int
    settings: type
    check: Callable[[Any, int], None]
    apply: Any
    reference: Callable[[np.ndarray, Any, Key], np.ndarray]
    drawn: Any
    columns: Callable[[Any], int]
    on_device: "Callable[[Sequence[Any], torch.device], Callable[[Any, Tensor], Any]]"
    on_planes: bool = False
    torchvision: Callable[[Any], Any]
    on_tensors: bool = False
    pixels: Mapping[str, tuple[Callable[[Images], Pairs], int]]
    applied: Callable[..., bool]
    draws: Callable[[int, int], Iterator[Drawn | Counted]] = no_draws
    steps: Mapping[str, Callable[[Any], Any]]
    scratch: Callable[[Any, int], int] = no_scratch

    @property
    def off(self) -> float | None:
        """The settings of a view without the op."""
        return 0.0 if self.settings is float else None

    @property
    def width(self) -> int:
        """The number of values in the settings."""
        return 1 if self.settings is float else len(self.settings._fields)  # type: ignore[attr-defined]

    def row(self, settings: Any) -> tuple[float, ...]:
        """Return the settings as numbers, for the view table; zeros for None."""
        if settings is None:
            return (0.0,) * self.width
        return (settings,) if self.settings is float else tuple(settings)


def after(kernel: Callable[..., None], image: np.ndarray, *parameters: Any) -> np.ndarray:
    """Return a copy of the image, changed by an in-place kernel: kernel(copy, *parameters)."""
    ours = image.copy()
    kernel(ours, *parameters)
    return ours
