"""What an op is to the rest of the suite: one description, in the op's own file.

An op changes a view that has been cropped and resized, with some probability. `View` in `loaders/views.py` has a field
for each op; they run in the order of the fields. The loader (`decode.py`), the device's views (`render.py`), the plain
twin (`reference.py`), the conformance card, the profile and the torchvision peer take all that they know of an op from
its description.

An op has settings: a NamedTuple of numbers, the last of which is the probability p, or p alone. They are the op's part
of a view's row in the view table, zeros where the view does not have the op.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Key = tuple[np.uint64, int, int, int]  # seed, epoch, sample, number of the view, see `rng.py`
Pictures = Sequence[np.ndarray]
Pairs = Iterator[tuple[np.ndarray, np.ndarray]]


class Drawn(NamedTuple):
    """A parameter as we draw it and as torchvision does, many times each: of one distribution.

    source: what it is drawn for, such as a strength.
    """

    check: str
    source: str
    ours: Sequence[float]
    theirs: Sequence[float]


class Counted(NamedTuple):
    """How often each outcome was drawn, and is expected to be."""

    check: str
    source: str
    observed: Sequence[int]
    expected: Sequence[float]


def no_scratch(settings: Any, size: int) -> int:
    return 0


def no_draws(count: int, seed: int) -> Iterator[Drawn | Counted]:
    return iter(())


@dataclass(frozen=True, kw_only=True)
class Op:
    """All that others take of an op.

    name: in tables. stream: the op's number among those of `rng.py`. settings: a NamedTuple class, or float.
    check: settings, size of the view in pixels -> None. ValueError, in a sentence, where the view cannot be made.

    apply: a kernel (image, row, scratch, seed, epoch, sample, view): draws, and changes uint8 (size, size, 3) in place.
        row: float64, the settings; p is above 0. scratch: uint8, as many bytes as `scratch(settings, size)` says.
    twin: the same for a copy, by torchvision or PIL where they are bit-equal, given settings and key.

    drawn: a kernel (to, row, size, seed, epoch, sample, view): writes to int32 (columns,), which holds zeros, what the
        device needs of the draws; where the op is not applied, p being 0 or by chance, what changes nothing.
    columns: settings -> how many; of several views the most.
    on_device: settings of views that are made together, and the device -> a function of the views and what was drawn,
        int32 (B, columns). The views are uint8 (B, size, size, 3), or, `on_planes`, three planes of whole numbers,
        float32 (B, size, size). It must give the kernel's bits on any device and make one graph with torch.compile.

    torchvision: settings -> torchvision's transform of PIL images, or, `on_tensors`, of uint8 (3, size, size).

    pixels: check on the conformance card -> a function of uint8 (size, size, 3) pictures that yields ours beside
        torchvision's, and by how many levels these may differ.
    applied: (p, *key) -> whether the op is applied, for the check of rates.
    draws: (count, seed) -> `count` draws of each parameter beside torchvision's from torch's global generator.
    steps: step in the profile -> settings with that step and those before it switched on; None for none of them.
    """

    name: str
    stream: int
    settings: type
    check: Callable[[Any, int], None]
    apply: Any
    twin: Callable[[np.ndarray, Any, Key], np.ndarray]
    drawn: Any
    columns: Callable[[Any], int]
    on_device: "Callable[[Sequence[Any], torch.device], Callable[[Any, Tensor], Any]]"
    on_planes: bool = False
    torchvision: Callable[[Any], Any]
    on_tensors: bool = False
    pixels: Mapping[str, tuple[Callable[[Pictures], Pairs], int]]
    applied: Callable[..., bool]
    draws: Callable[[int, int], Iterator[Drawn | Counted]] = no_draws
    steps: Mapping[str, Callable[[Any], Any]]
    scratch: Callable[[Any, int], int] = no_scratch

    @property
    def off(self) -> float | None:
        """The settings of a view that does not have the op."""
        return 0.0 if self.settings is float else None

    @property
    def width(self) -> int:
        """How many numbers the settings are."""
        return 1 if self.settings is float else len(self.settings._fields)  # type: ignore[attr-defined]

    def row(self, settings: Any) -> tuple[float, ...]:
        """The settings as numbers."""
        if settings is None:
            return (0.0,) * self.width
        return (settings,) if self.settings is float else tuple(settings)


def after(kernel: Callable[..., None], picture: np.ndarray, *parameters: Any) -> np.ndarray:
    """A copy of the picture that the kernel has changed."""
    ours = picture.copy()
    kernel(ours, *parameters)
    return ours
