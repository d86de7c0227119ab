"""Progressive resolution: views that grow over the epochs, since small views train faster and teach nearly as much.

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
    """The `[progressive]` table: views that grow from epoch to epoch.

    Up to `first_epoch` views are `start` pixels wide, from `last_epoch` on they have the recipe's size, and in between
    they grow linearly, rounded to a multiple of `multiple`. Epochs are counted from 0.
    """

    start: NonNegativeInt = 0  # side of the views in the first epochs, in pixels; 0 means the recipe's size throughout
    first_epoch: NonNegativeInt = 0  # epoch up to which views keep that side
    last_epoch: NonNegativeInt = 0  # epoch from which on views have the recipe's size
    multiple: PositiveInt = 32  # every side is a multiple of this many pixels

    def check(self, size: int, epochs: int) -> None:
        """Raise ValueError, naming the key, if views cannot grow in this way to `size` within the epochs."""
        if not self.start:
            return
        if self.start >= size:
            raise ValueError(f"progressive.start must be below the size, {size}, got {self.start}")
        for side in (self.start, size):
            if side % self.multiple:
                raise ValueError(
                    f"progressive.multiple must divide every side: {side} is not a multiple of {self.multiple}"
                )
        if not self.first_epoch < self.last_epoch < epochs:
            raise ValueError(
                f"progressive.last_epoch must be above first_epoch, {self.first_epoch}, and at most {epochs - 1}, the "
                f"last epoch, got {self.last_epoch}"
            )

    def side(self, size: int, epoch: int) -> int:
        """Return the side of an epoch's views, in pixels. size: the side in the last epochs."""
        if not self.start:
            return size
        # Linear between the two epochs and constant outside of them, rounded to a multiple.
        grown = np.interp(epoch, [self.first_epoch, self.last_epoch], [self.start, size])
        return int(np.round(grown / self.multiple)) * self.multiple


def epochs_per_side(sides: list[int]) -> dict[int, int]:
    """Return the first epoch of each side -> the number of epochs with that side. sides: the side in each epoch."""
    return {sides.index(side): count for side, count in Counter(sides).items()}


class Growing:
    """A loader whose views depend on the epoch: it has one `Loader` at a time, and a new one when the views change.

    views: function from an epoch to its views; their number is the same in every epoch. make: function from views to
    their loader.
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
        """The views of the current epoch."""
        return self._loader.views

    @property
    def skipped(self) -> set[int]:
        """The numbers of the samples that could not be decoded and were skipped, in all epochs."""
        return self._skipped | self._loader.skipped

    def epoch(self, epoch: int) -> Epoch:
        return self._of(epoch).epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._of(state["epoch"]).load_state_dict(state)

    def _of(self, epoch: int) -> Loader:
        """Return the epoch's loader. Closes the previous loader first, which frees its images on a device."""
        if (views := self._views(epoch)) != self._loader.views:
            self._skipped |= self._loader.skipped
            self._loader.close()
            self._loader = self._make(views)
        return self._loader
