"""The loader: decodes each image once, makes all its views, and yields them as a `Batch`.

A pool of threads renders chunks of a batch with the kernels of `decode.py`, which release the GIL. A batch never
changes after it has been yielded: its memory is reused only when nothing refers to it any more. An error in a worker
thread is raised when the batch that it belongs to is due, and names sample, field and file. Pixels depend only on
(seed, epoch, sample, view), not on the number of threads, the batch size, the order of the samples or the number of
ranks.
"""

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Literal, NamedTuple, NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from twoview.loaders import checks
from twoview.loaders import masks as masking
from twoview.loaders.beton import Beton
from twoview.loaders.decode import fault, output_layout, view_table
from twoview.loaders.limits import THREADS
from twoview.loaders.masks import Mask
from twoview.loaders.rng import ORDER, uniform
from twoview.loaders.samplers import positions, sequential, share, shuffled
from twoview.loaders.views import View
from twoview.loaders.views import checked as checked_views
from twoview.loaders.workers import Workers

# Pixels of views in a chunk of work, for example of three images with two views of 224 pixels. Such a chunk takes one
# or two milliseconds, and handing it to a thread costs 30 us.
CHUNK_PIXELS = 1 << 18
BATCHES_AHEAD = 2  # batches that are rendered ahead of the one that the caller asks for
REPLACEMENTS = 32  # random samples that are tried in place of a damaged one, before all samples are tried in turn
REPLACEMENT = 5  # the `view` number of these draws, whose op is ORDER; samplers.py uses 0 to 4


class Batch(NamedTuple):
    """The views, labels and sample numbers of B images.

    views: one tensor per view, uint8 (B, 3, H, W), in channels-last memory format.
    label: int64 (B,). index: int64 (B,), the numbers of the samples in the beton file.
    masks: one tensor per mask, int64 (B, kept), the numbers of the patches that are kept, in ascending order.
    """

    views: tuple[Tensor, ...]
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # the contract's name; tuple.index is not needed
    masks: tuple[Tensor, ...] = ()


class Loader:
    """Loads batches of augmented views of the images in a beton file (FFCV's format).

    beton: the file, opened by `open_beton`.
    views: the views to make of each image: crop, size and augmentations.
    batch: number of images in a batch, on each rank.
    masks: which patches of which views are kept, for methods that see only some of the patches.
    indices: the samples to use, all by default: integer sample numbers, where duplicates are kept, or one boolean per
        sample, True for those to use.
    seed: the seed of the order and of the augmentations, below 2 ** 64.
    shuffle: draw a new order in every epoch; otherwise samples keep the order of `indices`.
    order: a function epoch -> int64 positions in `indices`, of the same length in every epoch. It replaces `shuffle`.
    drop_last: drop the last batch if it is not full.
    threads: number of threads that decode and augment.
    pin: put batches into page-locked memory, for asynchronous copies to a GPU.
    rank, world: the number of this process, and how many there are. All ranks together see the same batches as one
        process with a batch size of batch * world.
    on_error: "raise", or "skip" to replace a damaged sample by another one of `indices`, drawn by seed and epoch. The
        numbers of the damaged samples are collected in `skipped`.

    A loader that was used before a fork also works in the child process, with threads of its own. It can be neither
    pickled nor copied: with spawned processes, each one opens the beton and makes its own loader.
    Raises ValueError if there are too few images for one batch, a mask does not fit its view, or an argument is
    invalid.
    """

    def __init__(
        self,
        beton: Beton,
        views: Sequence[View],
        batch: int,
        *,
        masks: Sequence[Mask] = (),
        indices: np.ndarray | None = None,
        seed: int = 0,
        shuffle: bool = True,
        order: Callable[[int], np.ndarray] | None = None,
        drop_last: bool = True,
        threads: int = 1,
        pin: bool = False,
        rank: int = 0,
        world: int = 1,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        if not hasattr(beton, "layout"):  # a path, say
            raise ValueError(f"beton must be a file opened by open_beton, got {beton!r}")
        self.beton, self.views = beton, checked_views(views)
        self.masks = masking.checked(masks, self.views)
        self.indices = sequential(len(beton)) if indices is None else checks.sample_numbers(indices, len(beton))
        self.batch = checks.whole("batch", batch, 1)
        self.seed = checks.whole("seed", seed, 0, 2**64)
        if not (order is None or callable(order)):
            raise ValueError(f"order must be a function of the epoch, got {order!r}")
        # The order must not be a bound method of the loader: the reference cycle would keep the loader alive until the
        # garbage collector runs.
        in_order = shuffled if checks.truth("shuffle", shuffle) else _in_turn
        self.order = partial(in_order, len(self.indices), self.seed) if order is None else order
        self.drop_last, self.pin = checks.truth("drop_last", drop_last), checks.truth("pin", pin)
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}')
        self.on_error = on_error
        self.threads = checks.whole("threads", threads, 1)
        THREADS.check(self.threads, "a loader")
        self.world = checks.whole("world", world, 1)
        self.rank = checks.whole("rank", rank, 0, self.world)
        self.skipped: set[int] = set()
        self._images = len(positions(self.order(0), len(self.indices)))
        self._batches = len(share(self._images, self.batch, self.rank, self.world, self.drop_last))
        if self._batches == 0:
            whole = self.batch * self.world
            raise ValueError(f"{beton.path}: {self._images} images do not fill one batch of {whole}")
        self._table = view_table(self.views)
        self._pixels = sum(view.size**2 for view in self.views)  # pixels of all views of one image
        self._reached = (0, 0)  # the epoch, and how many of its batches have been yielded
        self._under_way: set[object] = set()  # one entry per epoch that was begun and has not ended
        self._closed = False
        self._resume_at: tuple[int, int] | None = None  # a loaded state, until its epoch is begun
        self._memory: deque[np.ndarray] = deque()  # memory of batches that nothing refers to any more
        self._workers = self._hired()

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return self._batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and free their decoders, once the work in progress is done. A second call does nothing."""
        self._closed = True
        self._workers.end()
        self._memory.clear()

    def epoch(self, epoch: int) -> "Epoch":
        """Return an iterator over the batches of one epoch, which are rendered ahead of their use.

        epoch: the number of the epoch, from 0. Closing or dropping the iterator early stops the rendering.
        Raises ValueError if the epoch is not a whole number of at least 0, `order` returns an invalid order, or the
        loader is closed before the epoch ends.
        """
        epoch = checks.whole("epoch", epoch, 0, 2**63)  # an int64 in the kernels
        self._open()
        if not self._workers.here:  # after a fork the child process has none of the threads
            self._workers = self._hired()
        resume_at, self._resume_at = self._resume_at, None
        self._reached = resume_at if resume_at and resume_at[0] == epoch else (epoch, 0)
        return Epoch(self._counted(self._batches_from(*self._reached)))

    def state_dict(self) -> dict[str, Any]:
        """Return how far the loader has come: the epoch, the number of batches yielded, and what these depend on.

        Raises ValueError while several epochs are in progress, because a state describes one epoch.
        """
        if len(self._under_way) > 1:
            raise ValueError(
                f"a loader's state describes one epoch, but {len(self._under_way)} are in progress: "
                f"finish or close all but one"
            )
        epoch, batches = self._reached
        return {"epoch": epoch, "batches": batches, **self._work()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state: the next call of `epoch` with the state's epoch skips the batches already yielded.

        state: from `state_dict`. The numbers of threads and ranks may differ, as long as all ranks together make
        batches of the same size.
        Raises ValueError, naming the key, if it is not a loader's state, or if the state's loader had another seed,
        number of images, global batch size or beton file.
        """
        if not isinstance(state, Mapping) or not {"epoch", "batches"} <= state.keys():
            raise ValueError(f"a loader's state must have an epoch and batches, got {str(state)[:80]}")
        epoch = checks.whole("the state's epoch", state["epoch"], 0, 2**63)
        most = len(share(self._images, self.batch * self.world, 0, 1, self.drop_last))  # this rank may have fewer
        batches = checks.whole("the state's batches", state["batches"], 0, most + 1)
        for key, mine in self._work().items():
            # States of older versions do not have the key "data", or None for a file that FFCV wrote.
            theirs = mine if key == "data" and state.get(key) is None else state.get(key, mine)
            # The type is checked first: comparing a tensor or an array would give one result per element.
            if not isinstance(theirs, int | np.integer | str | None) or theirs != mine:
                raise ValueError(f"the loader's {key} must be {str(theirs)[:80]}, as in the saved state, got {mine}")
        self._reached = self._resume_at = epoch, batches

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Loader cannot be pickled or copied: open the beton in the other process and make one there")

    def _work(self) -> dict[str, Any]:
        """Return the values that a state's batches depend on; they must be equal when the state is loaded."""
        images, batch = self._images, self.batch * self.world
        return {"seed": self.seed, "images": images, "global_batch": batch, "data": f"{self.beton.index:016x}"}

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and count the epoch as in progress until the last."""
        me = object()
        self._under_way.add(me)
        try:
            yield from batches
        finally:
            self._under_way.discard(me)

    def _batches_from(self, epoch: int, first: int) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from number `first` on, with BATCHES_AHEAD more in progress."""
        samples = self.indices[self._ordered(epoch)]
        places = share(self._images, self.batch, self.rank, self.world, self.drop_last)
        started: deque[tuple[Batch, list[Future[None]]]] = deque()
        process = os.getpid()
        try:
            for number in range(first, len(self) + BATCHES_AHEAD):
                self._open()
                if number < len(self):
                    started.append(self._start(samples[places[number]], epoch))
                if os.getpid() != process:
                    raise RuntimeError(
                        "an epoch must be continued in the process that began it: begin another one here"
                    )
                if number >= first + BATCHES_AHEAD:
                    batch, chunks = started[0]
                    for chunk in chunks:
                        chunk.result()
                    started.popleft()
                    self._reached = epoch, number - BATCHES_AHEAD + 1
                    yield batch
        finally:
            if os.getpid() == process:
                for chunk in chain.from_iterable(chunks for _, chunks in started):
                    chunk.cancel()

    def _ordered(self, epoch: int) -> np.ndarray:
        """Return the order of an epoch as positions in `indices`, int64 (N,).

        Raises ValueError if `order` returns anything else, or another number of positions than for epoch 0.
        """
        order = positions(self.order(epoch), len(self.indices))
        if len(order) != self._images:
            raise ValueError(
                f"order must have {self._images} positions in every epoch, got {len(order)} in epoch {epoch}"
            )
        return order

    def _open(self) -> None:
        """Raise ValueError if the loader is closed."""
        if self._closed:
            raise ValueError(f"{self.beton.path}: the loader is closed: make another one")

    def _start(self, samples: np.ndarray, epoch: int) -> tuple[Batch, list[Future[None]]]:
        """Begin to render a batch. Returns the batch, and the chunks of work after which its memory is filled."""
        offsets, size = output_layout(self.views, len(samples))
        memory = self._allocate(size)
        labels = self.beton.labels[samples]
        masks = [torch.empty(len(samples), mask.kept, dtype=torch.int64, pin_memory=self.pin) for mask in self.masks]
        step = min(-(-CHUNK_PIXELS // self._pixels), -(-len(samples) // self.threads))
        chunks = [
            self._workers.submit(
                self._render, slice(at, at + step), samples, labels, masks, epoch, memory.numpy(), offsets
            )
            for at in range(0, len(samples), step)
        ]
        tensors = []
        for view, offset in zip(self.views, offsets, strict=True):
            shape = (len(samples), view.size, view.size, 3)
            tensors.append(memory[offset : offset + np.prod(shape)].view(shape).permute(0, 3, 1, 2))
        return Batch(tuple(tensors), torch.from_numpy(labels), torch.from_numpy(samples), tuple(masks)), chunks

    def _allocate(self, size: int) -> Tensor:
        """Return uninitialized memory for a batch, uint8 (size,).

        New memory pages cost as much time as a blur, so the memory of batches that are gone is reused.
        """
        if self.pin:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)  # torch reuses pinned memory itself
        memory = self._memory.popleft() if self._memory else np.empty(0, np.uint8)
        if memory.size < size:
            memory = np.empty(size, np.uint8)
        # The batch's tensors refer to this array. When the last of them is gone, its memory returns to the pool.
        lent = memory[:size]
        weakref.finalize(lent, self._memory.append, memory).atexit = False
        return torch.from_numpy(lent)

    def _hired(self) -> Workers:
        """Start the worker threads of this process. They end with the loader, even if it is never closed."""
        workers = Workers(self.threads)
        # The last reference to the loader may be dropped in a worker thread, which cannot wait for its own end. No work
        # can be in progress then.
        weakref.finalize(self, workers.end, wait=False)
        return workers

    def _render(
        self,
        rows: slice,
        samples: np.ndarray,
        labels: np.ndarray,
        masks: Sequence[Tensor],
        epoch: int,
        memory: np.ndarray,
        offsets: np.ndarray,
    ) -> None:
        """Render the views of some rows of a batch into its memory.

        rows: which rows. samples, labels: int64 (B,), of the whole batch. masks: int64 (B, kept), to be filled.
        memory, offsets: the batch's buffer, and where each view begins in it.
        Raises ValueError for a damaged sample. With on_error "skip" it is replaced by another one instead, in `samples`
        and `labels` too.
        """
        statuses = self._status(samples[rows], epoch, memory, offsets, rows.start)
        for row in rows.start + np.flatnonzero(statuses):
            damaged = int(samples[row])
            if self.on_error == "raise":
                raise self._error(damaged, fault(self.beton, damaged, int(statuses[row - rows.start])))
            self.skipped.add(damaged)
            for other in self._others(damaged, epoch):
                samples[row] = other
                if other in self.skipped:
                    continue
                if not self._status(samples[row : row + 1], epoch, memory, offsets, row)[0]:
                    break
                self.skipped.add(other)
            else:
                raise ValueError(f"{self.beton.path}: none of {len(self.indices)} samples can be decoded")
            labels[row] = self.beton.labels[samples[row]]
        for mask, kept in zip(self.masks, masks, strict=True):
            kept.numpy()[rows] = masking.draw(mask, samples[rows], self.seed, epoch)

    def _others(self, sample: int, epoch: int) -> Iterator[int]:
        """Yield samples to try in place of a damaged one: random ones first, and then all samples in turn.

        They are random so that many damaged samples are not all replaced by the same one.
        """
        key = np.uint64(self.seed)
        for draw in range(REPLACEMENTS):
            place = uniform(key, epoch, sample, REPLACEMENT, ORDER, draw) * len(self.indices)
            yield int(self.indices[int(place)])
        yield from map(int, self.indices)

    def _status(
        self, samples: np.ndarray, epoch: int, memory: np.ndarray, offsets: np.ndarray, position: int
    ) -> np.ndarray:
        """Render samples into the batch from row `position` on, and return their status, int32 (n,).

        An unexpected exception, such as MemoryError, is raised as a ValueError that names the sample.
        """
        render, layout = self._workers.decoder.render, self.beton.layout
        status: np.ndarray
        try:
            status = render(layout, samples, self._table, self.seed, epoch, memory, offsets, position)
        except Exception as error:
            # To find the sample that caused it, render them one by one.
            if len(samples) == 1:
                raise self._error(int(samples[0]), f"{type(error).__name__}: {error}") from error
            one = [self._status(samples[i : i + 1], epoch, memory, offsets, position + i) for i in range(len(samples))]
            status = np.concatenate(one)
        return status

    def _error(self, sample: int, reason: str) -> ValueError:
        """Return the error for a sample that cannot be decoded, for the given reason."""
        return ValueError(f"{self.beton.path}: sample {sample}, field image: {reason}")


class Epoch(Iterator[Batch]):
    """An iterator over the batches of one epoch. As a context manager it stops the rendering when its block ends."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches

    def __next__(self) -> Batch:
        return next(self._batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the rendering. A second call does nothing."""
        self._batches.close()  # type: ignore[attr-defined]  # a generator


def _in_turn(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order without `shuffle`, which is the same in every epoch."""
    return sequential(count)
