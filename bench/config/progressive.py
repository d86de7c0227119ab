"""Progressive resolution: views that grow over the epochs, for small ones train faster and teach most of the same.

Source: `get_resolution` in train_imagenet.py of libffcv/ffcv-imagenet, where a ResNet-50's views of 160 pixels grow to
192 over epochs 65 to 76 of 88, in multiples of 32 (rn50_configs/rn50_88_epochs.yaml).
"""

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from twoview.loaders.loader import Epoch, Loader
from twoview.loaders.views import View
from twoview.methods.settings import Settings


class Progressive(Settings):
    """The `[progressive]` table: until `first_epoch` views are `start` pixels wide, from `last_epoch` on as wide as the
    recipe says, and between them they grow with the epoch. Epochs are counted from 0.
    """

    start: NonNegativeInt = 0  # side of the first epochs' views, in pixels; 0: the recipe's size in every epoch
    first_epoch: NonNegativeInt = 0  # up to which it stays
    last_epoch: NonNegativeInt = 0  # from which on it is the recipe's size
    multiple: PositiveInt = 32  # pixels; every side is a multiple of it

    def check(self, size: int, epochs: int) -> None:
        """ValueError, naming the key, if views cannot grow so to `size` within the epochs."""
        if not self.start:
            return
        if self.start >= size:
            raise ValueError(f"progressive.start must be below the size, {size}, not {self.start}")
        for side in (self.start, size):
            if side % self.multiple:
                raise ValueError(f"progressive.multiple: {side} pixels are no multiple of {self.multiple}")
        if not self.first_epoch < self.last_epoch < epochs:
            raise ValueError(
                f"progressive.last_epoch must lie between first_epoch, {self.first_epoch}, and the last of {epochs} "
                f"epochs, {epochs - 1}, not {self.last_epoch}"
            )

    def side(self, size: int, epoch: int) -> int:
        """Pixels a side of an epoch's views, `size` in the end."""
        if not self.start:
            return size
        grown = np.interp(epoch, [self.first_epoch, self.last_epoch], [self.start, size])
        return int(np.round(grown / self.multiple)) * self.multiple


def epochs_per_side(sides: list[int]) -> dict[int, int]:
    """The first epoch of each side -> how many epochs have that side. sides: of every epoch."""
    return {sides.index(side): count for side, count in Counter(sides).items()}


class Growing:
    """A loader whose views depend on the epoch: one `Loader` at a time, and another where the views change.

    views: epoch -> views, equally many in every epoch. make: views -> their loader.
    """

    def __init__(self, views: Callable[[int], tuple[View, ...]], make: Callable[[tuple[View, ...]], Loader]) -> None:
        self._views, self._make = views, make
        self._skipped: set[int] = set()
        self._loader = make(views(0))
        self.batch, self.world, self.threads = self._loader.batch, self._loader.world, self._loader.threads

    def __len__(self) -> int:
        return len(self._loader)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._loader.close()

    @property
    def views(self) -> tuple[View, ...]:
        """Of the epoch under way."""
        return self._loader.views

    @property
    def skipped(self) -> set[int]:
        return self._skipped | self._loader.skipped

    def epoch(self, epoch: int) -> Epoch:
        return self._of(epoch).epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._of(state["epoch"]).load_state_dict(state)

    def _of(self, epoch: int) -> Loader:
        """The epoch's loader. The one before it is closed first, with the images that it may keep on a device."""
        if (views := self._views(epoch)) != self._loader.views:
            self._skipped |= self._loader.skipped
            self._loader.close()
            self._loader = self._make(views)
        return self._loader
