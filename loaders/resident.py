"""A loader for small datasets: all images stay decoded on the device, as one uint8 tensor, and views are made there.

For each batch the host only draws the random parameters and makes two copies to the device: the parameters, and the
positions of the batch's images.
"""

from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, MethodType

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.profiler import record_function

from twoview.loaders import masks as masking
from twoview.loaders.beton import RAW, Beton
from twoview.loaders.decode import Decoder, fault
from twoview.loaders.loader import Batch, Loader
from twoview.loaders.masks import Mask
from twoview.loaders.reference import decode
from twoview.loaders.render import Renderer
from twoview.loaders.samplers import sequential, share
from twoview.loaders.views import View

SHARE = 0.25  # largest share of the device's free memory that the images may take, for `fits`
SMALL = 64  # largest side in pixels at which `fits` accepts JPEGs too: decoded, they are hardly larger


class Resident(Loader):
    """A `twoview.Loader` that keeps all images on a device and makes the batches there. The batches are equal bit for
    bit.

    device: where the images and the batches are stored. The other arguments are the same as for `Loader`.
    All images in use must have one size. On a GPU the first batch waits for `torch.compile`. Batches are computed
    asynchronously, like any tensor on the device: yielding one does not wait until it is finished.
    Raises ValueError if the images differ in size, need more than the device's free memory, are damaged, or are too few
    for one batch.
    """

    def __init__(
        self,
        beton: Beton,
        views: Sequence[View],
        batch: int,
        *,
        device: torch.device | str,
        masks: Sequence[Mask] = (),
        indices: np.ndarray | None = None,
        seed: int = 0,
        shuffle: bool = True,
        order: Callable[[int], np.ndarray] | None = None,
        drop_last: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(
            beton, views, batch, masks=masks, indices=indices, seed=seed, shuffle=shuffle, order=order,
            drop_last=drop_last, rank=rank, world=world,
        )  # fmt: skip
        self.device = torch.device(device)
        needed, free = bytes_needed(beton, self.indices), free_bytes(self.device)
        if needed > free:
            raise ValueError(
                f"{beton.path}: {len(self.indices):,} images need {needed:,} bytes, but {self.device} has {free:,} free"
            )
        # The images are stored in the order of `indices`, so a position in `indices` is also a position here.
        images = self._decoded()
        self._dataset = torch.from_numpy(images).to(self.device)
        self._labels = torch.from_numpy(beton.labels[self.indices]).to(self.device)
        self._numbers = torch.from_numpy(self.indices).to(self.device)
        self._renderer = Renderer(self.views, images.shape[1], images.shape[2], self.device)
        self._views_of = compiled(self._renderer) if self.device.type == "cuda" else self._renderer.make

    def close(self) -> None:
        """End the loader, and free the images on the device."""
        super().close()
        self._dataset = torch.empty(0)

    def _decoded(self) -> np.ndarray:
        """Return all images in use, decoded, uint8 (N, H, W, 3).

        Each sample's bytes are checked first, as `Loader` does at every read. Raises ValueError for a damaged sample.
        """
        with Decoder() as decoder:
            status = decoder.check(self.beton, self.indices)
        for place in np.flatnonzero(status):
            sample = int(self.indices[place])
            raise self._error(sample, fault(self.beton, sample, int(status[place])))
        return np.stack([decode(self.beton, int(sample)) for sample in self.indices])

    def _batches_from(self, epoch: int, first: int) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from number `first` on."""
        order = self._ordered(epoch)
        parts = share(self._images, self.batch, self.rank, self.world, self.drop_last)
        for number in range(first, len(parts)):
            self._open()
            with record_function("augment"):
                batch = self._batch(order[parts[number]], epoch)
            self._reached = epoch, number + 1
            yield batch

    def _batch(self, positions: np.ndarray, epoch: int) -> Batch:
        """Return the batch of these positions in `indices`.

        The code is compiled for full batches. A last batch that is not full is padded with repeated images, which are
        then cut off again.
        """
        count, positions = len(positions), np.resize(positions, self.batch)
        samples = self.indices[positions]
        drawn = self._sent(self._renderer.draw(samples, self.seed, epoch))
        masks = [self._sent(masking.draw(mask, samples, self.seed, epoch)) for mask in self.masks]
        places = self._sent(positions)
        views = self._views_of(self._dataset, places, drawn)
        places = places[:count]
        return Batch(
            tuple(view[:count] for view in views),
            self._labels[places],
            self._numbers[places],
            tuple(mask[:count] for mask in masks),
        )

    def _sent(self, array: np.ndarray) -> Tensor:
        """Return the array as a tensor on the device, copied without the host waiting for it."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def compiled(renderer: Renderer, backend: str = "inductor") -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
    """Return the renderer's `make`, compiled by `torch.compile` as one graph.

    torch compiles one code object at most eight times, so each renderer gets its own code object.
    """
    make = Renderer.make
    own = MethodType(FunctionType(make.__code__.replace(), make.__globals__, closure=make.__closure__), renderer)
    return torch.compile(own, dynamic=False, fullgraph=True, backend=backend)


def bytes_needed(beton: Beton, indices: np.ndarray) -> int:
    """Return the size of the decoded images in bytes. Raises ValueError if they differ in size."""
    heights, widths = beton.heights[indices], beton.widths[indices]
    for other in np.flatnonzero((heights != heights[0]) | (widths != widths[0])):
        sizes = [f"sample {indices[place]} has {widths[place]} x {heights[place]} pixels" for place in (0, other)]
        raise ValueError(f"{beton.path}: resident images must have one size; {' and '.join(sizes)}")
    return len(indices) * int(heights[0]) * int(widths[0]) * 3


def free_bytes(device: torch.device) -> int:
    """Return the device's free memory in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def fits(beton: Beton, device: torch.device, indices: np.ndarray | None = None) -> bool:
    """Return whether the images should be kept on the device.

    They should if all have the same size, are small or stored as raw pixels, and need at most SHARE of the free memory.
    """
    used = sequential(len(beton)) if indices is None else indices
    try:
        needed = bytes_needed(beton, used)
    except ValueError:
        return False
    small = max(beton.heights[used[0]], beton.widths[used[0]]) <= SMALL
    return (small or bool((beton.modes[used] == RAW).all())) and needed <= SHARE * free_bytes(device)
