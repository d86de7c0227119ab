"""The loader: decodes each image once, fills all its views, hands over a `Batch`.

A pool of threads renders chunks of a batch with the kernels of `loaders.decode`, which release the GIL. Every batch has
memory of its own, so a batch that is kept never changes. An error in a worker reaches the caller with the next batch,
naming sample, field and file. Pixels depend on (seed, epoch, sample, view) alone, not on threads, batch size or order.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from loaders.beton import Beton
from loaders.decode import STATUS_TEXT, Decoder, output_layout, view_table
from loaders.samplers import sequential, shuffled
from loaders.views import View

CHUNKS_A_THREAD = 4  # of one batch, so that a thread with small images helps one with large ones
BATCHES_AHEAD = 2


class Batch(NamedTuple):
    """views: one uint8 (B, 3, H, W) a view, channels-last. label: int64 (B,). index: int64 (B,), sample numbers."""

    views: tuple[Tensor, ...]
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # the contract's name; tuple.index is not needed


class Loader:
    """Batches of views of a beton file.

    beton: the opened file. views: what to make of each image. batch: images a batch.
    indices: int64, the sample numbers to use; all of them by default.
    seed: of the order and of the augmentations. shuffle: a new order each epoch, else that of `indices`.
    drop_last: leave out a last batch that is not full. threads: that decode and augment.
    pin: page-locked memory, for asynchronous copies to a GPU.
    Raises ValueError if there is no full batch to give.
    """

    def __init__(
        self,
        beton: Beton,
        views: Sequence[View],
        batch: int,
        *,
        indices: np.ndarray | None = None,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        threads: int = 1,
        pin: bool = False,
    ) -> None:
        self.beton, self.views, self.batch, self.seed = beton, tuple(views), batch, seed
        self.indices = sequential(len(beton)) if indices is None else np.asarray(indices, np.int64)
        self.shuffle, self.drop_last, self.threads, self.pin = shuffle, drop_last, threads, pin
        if len(self) == 0:
            raise ValueError(f"{beton.path}: {len(self.indices)} images do not fill one batch of {batch}")
        self._table = view_table(self.views)
        self._decoders: list[Decoder] = []
        self._thread = threading.local()
        self._pool = ThreadPoolExecutor(threads, "loader", initializer=self._start_thread)

    def __len__(self) -> int:
        """Batches an epoch."""
        full, rest = divmod(len(self.indices), self.batch)
        return full + (rest > 0 and not self.drop_last)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and frees their decoders. Waits for chunks under way."""
        self._pool.shutdown(cancel_futures=True)
        while self._decoders:
            self._decoders.pop().close()

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, rendered ahead of their use. Leaving the loop early stops the rendering."""
        order = self.indices[shuffled(len(self.indices), self.seed, epoch)] if self.shuffle else self.indices
        started: deque[tuple[Batch, list[Future[None]]]] = deque()
        try:
            for number in range(len(self) + BATCHES_AHEAD):
                if number < len(self):
                    started.append(self._start(order[number * self.batch : (number + 1) * self.batch], epoch))
                if number >= BATCHES_AHEAD:
                    batch, chunks = started[0]
                    for chunk in chunks:
                        chunk.result()
                    started.popleft()
                    yield batch
        finally:
            for _, chunks in started:
                for chunk in chunks:
                    chunk.cancel()

    def _start(self, samples: np.ndarray, epoch: int) -> tuple[Batch, list[Future[None]]]:
        offsets, size = output_layout(self.views, len(samples))
        memory = torch.empty(size, dtype=torch.uint8, pin_memory=self.pin)
        step = -(-len(samples) // (CHUNKS_A_THREAD * self.threads))
        chunks = [
            self._pool.submit(self._render, samples[first : first + step], epoch, memory.numpy(), offsets, first)
            for first in range(0, len(samples), step)
        ]
        tensors = []
        for view, offset in zip(self.views, offsets, strict=True):
            shape = (len(samples), view.size, view.size, 3)
            tensors.append(memory[offset : offset + np.prod(shape)].view(shape).permute(0, 3, 1, 2))
        return Batch(tuple(tensors), torch.from_numpy(self.beton.labels[samples]), torch.from_numpy(samples)), chunks

    def _start_thread(self) -> None:
        self._thread.decoder = Decoder()
        self._decoders.append(self._thread.decoder)

    def _render(self, samples: np.ndarray, epoch: int, memory: np.ndarray, offsets: np.ndarray, position: int) -> None:
        beton = self.beton
        status = self._thread.decoder.render(
            beton.file,
            beton.modes,
            beton.heights,
            beton.widths,
            beton.pointers,
            beton.sizes,
            samples,
            self._table,
            self.seed,
            epoch,
            memory,
            offsets,
            position,
        )
        if status.any():
            first = int(np.flatnonzero(status)[0])
            raise ValueError(f"{beton.path}: sample {samples[first]}, field image: {STATUS_TEXT[int(status[first])]}")
