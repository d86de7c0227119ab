"""The loader: decodes each image once, fills all its views, hands over a `Batch`.

A pool of threads renders chunks of a batch with the kernels of `decode.py`, which release the GIL. A batch that is
kept never changes: its memory is used again only when nothing refers to it any more. An error in a worker reaches the
caller with the next batch, naming sample, field and file. Pixels depend on (seed, epoch, sample, view) alone, not on
threads, batch size, order or ranks.
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

CHUNK_PIXELS = 1 << 18  # of views: a millisecond or two, against 30 us that a chunk costs; three images at 224 twice
BATCHES_AHEAD = 2
REPLACEMENTS = 32  # samples that are drawn in the place of a damaged one, before all others are tried in turn
REPLACEMENT = 5  # of the generator's numbers for orders, those of these draws (samplers.py has 0 to 4)


class Batch(NamedTuple):
    """views: one uint8 (B, 3, H, W) a view, channels-last. label: int64 (B,). index: int64 (B,), sample numbers.

    masks: one int64 (B, kept) a mask, the numbers of the patches kept, ascending.
    """

    views: tuple[Tensor, ...]
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # the contract's name; tuple.index is not needed
    masks: tuple[Tensor, ...] = ()


class Loader:
    """Batches of views of a beton file.

    beton: the opened file. views: what to make of each image. batch: images a batch, on each rank.
    masks: which patches of which views to keep.
    indices: the sample numbers to use, integers, one that stands twice comes twice; or booleans, one a sample, True for
        those to use; all of them by default.
    seed: of the order and of the augmentations, below 2 ** 64. shuffle: a new order each epoch, else that of `indices`.
    order: epoch -> int64 positions in `indices`, equally many every epoch; takes the place of `shuffle`.
    drop_last: leave out a last batch that is not full. threads: that decode and augment.
    pin: page-locked memory, for asynchronous copies to a GPU.
    rank, world: this process of how many; together they see the batches that one process with batch * world would.
    on_error: "raise", or "skip" to put another sample of `indices`, drawn by seed and epoch, in a damaged one's place;
        the numbers of the damaged ones are collected in `skipped`.
    A loader that was used before a fork works in the child, too, on threads of its own. It is neither pickled nor
    copied: where processes are spawned, each opens the beton and makes its own.
    Raises ValueError if there is no full batch to give, a mask does not fit its view, or an argument is not one it can
    be.
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
        # No method of the loader's own, which would hold it in a cycle until the garbage collector comes.
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
        self._pixels = sum(view.size**2 for view in self.views)  # of one image's views
        self._reached = (0, 0)  # epoch, batches of it handed over
        self._under_way: set[object] = set()  # epochs that were begun and have not ended
        self._closed = False
        self._resume_at: tuple[int, int] | None = None
        self._memory: deque[np.ndarray] = deque()  # of batches that nobody holds any more
        self._workers = self._hired()

    def __len__(self) -> int:
        """Batches an epoch."""
        return self._batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and frees their decoders. Waits for chunks under way. A second call does nothing."""
        self._closed = True
        self._workers.end()
        self._memory.clear()

    def epoch(self, epoch: int) -> "Epoch":
        """The batches of one epoch, rendered ahead of their use. Leaving early stops the rendering.

        ValueError for no number from 0 on, for an order that is none, and where the loader is closed, by then or
        before the epoch ends.
        """
        epoch = checks.whole("epoch", epoch, 0, 2**63)  # an int64 in the kernels
        self._open()
        if not self._workers.here:  # a fork takes no thread along
            self._workers = self._hired()
        resume_at, self._resume_at = self._resume_at, None
        self._reached = resume_at if resume_at and resume_at[0] == epoch else (epoch, 0)
        return Epoch(self._counted(self._batches_from(*self._reached)))

    def state_dict(self) -> dict[str, Any]:
        """How far the loader has come: the epoch, how many of its batches were handed over, and what they depend on.

        ValueError while several epochs are under way, for a state is that of one.
        """
        if len(self._under_way) > 1:
            raise ValueError(
                f"a loader's state is that of one epoch, and {len(self._under_way)} are under way: "
                f"end or close all but one"
            )
        epoch, batches = self._reached
        return {"epoch": epoch, "batches": batches, **self._work()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next `epoch` of that number go on behind the batches that had been handed over.

        Threads and ranks may differ, as long as all ranks together make batches of the same size.
        ValueError, naming the key, if the state is of other work, or none of a loader's.
        """
        if not isinstance(state, Mapping) or not {"epoch", "batches"} <= state.keys():
            raise ValueError(f"a loader's state must have an epoch and batches, got {str(state)[:80]}")
        epoch = checks.whole("the state's epoch", state["epoch"], 0, 2**63)
        most = len(share(self._images, self.batch * self.world, 0, 1, self.drop_last))  # this rank may have fewer
        batches = checks.whole("the state's batches", state["batches"], 0, most + 1)
        for key, mine in self._work().items():
            theirs = state.get(key, mine)  # an older state does not say of which data it is
            # A tensor or an array would compare each of its numbers.
            if not isinstance(theirs, int | np.integer | str | None) or theirs != mine:
                raise ValueError(f"the loader's {key} must be {str(theirs)[:80]} as in the state, got {mine}")
        self._reached = self._resume_at = epoch, batches

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Loader cannot be pickled or copied: open the beton in the other process and make one there")

    def _work(self) -> dict[str, Any]:
        data = None if self.beton.index is None else f"{self.beton.index:016x}"
        return {"seed": self.seed, "images": self._images, "global_batch": self.batch * self.world, "data": data}

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; between the first and the last the epoch counts as under way."""
        me = object()
        self._under_way.add(me)
        try:
            yield from batches
        finally:
            self._under_way.discard(me)

    def _batches_from(self, epoch: int, first: int) -> Iterator[Batch]:
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
                    raise RuntimeError("an epoch must go on in the process that began it: begin another one here")
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
        """int64 (N,), positions in `indices`. ValueError where `order` gives others, or not as many as for epoch 0."""
        order = positions(self.order(epoch), len(self.indices))
        if len(order) != self._images:
            raise ValueError(f"order must have {self._images} positions in every epoch, got {len(order)} in {epoch}")
        return order

    def _open(self) -> None:
        if self._closed:
            raise ValueError(f"{self.beton.path}: the loader is closed: make another one")

    def _start(self, samples: np.ndarray, epoch: int) -> tuple[Batch, list[Future[None]]]:
        """The batch, its memory still to be filled, and the chunks of work that fill it."""
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
        """uint8 (size,). Fresh pages cost as much as a blur, so those of batches that are gone are used again."""
        if self.pin:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)  # torch keeps such memory itself
        memory = self._memory.popleft() if self._memory else np.empty(0, np.uint8)
        if memory.size < size:
            memory = np.empty(size, np.uint8)
        lent = memory[:size]
        weakref.finalize(lent, self._memory.append, memory).atexit = False
        return torch.from_numpy(lent)

    def _hired(self) -> Workers:
        """Workers of this process, which end with the loader, also where nobody closes it."""
        workers = Workers(self.threads)
        # Whoever drops the loader last may be a worker, which cannot wait for itself; no work can be under way then.
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
        """Fills the rows of a batch. A damaged sample raises, or is replaced, in `samples` and `labels` too."""
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
        """Samples in use for the place of this one: drawn, so that none stands for many; then every one in turn."""
        key = np.uint64(self.seed)
        for draw in range(REPLACEMENTS):
            place = uniform(key, epoch, sample, REPLACEMENT, ORDER, draw) * len(self.indices)
            yield int(self.indices[int(place)])
        yield from map(int, self.indices)

    def _status(
        self, samples: np.ndarray, epoch: int, memory: np.ndarray, offsets: np.ndarray, position: int
    ) -> np.ndarray:
        """Renders samples to a place of the batch and returns their status, int32 (n,)."""
        render, layout = self._workers.decoder.render, self.beton.layout
        status: np.ndarray
        try:
            status = render(layout, samples, self._table, self.seed, epoch, memory, offsets, position)
        except Exception as error:
            if len(samples) == 1:
                raise self._error(int(samples[0]), f"{type(error).__name__}: {error}") from error
            one = [self._status(samples[i : i + 1], epoch, memory, offsets, position + i) for i in range(len(samples))]
            status = np.concatenate(one)
        return status

    def _error(self, sample: int, reason: str) -> ValueError:
        return ValueError(f"{self.beton.path}: sample {sample}, field image: {reason}")


class Epoch(Iterator[Batch]):
    """The batches of one epoch. As a context manager it stops the rendering at the end of its block."""

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
        """Stops the rendering. A second call does nothing."""
        self._batches.close()  # type: ignore[attr-defined]  # a generator


def _in_turn(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order without `shuffle`, the same in every epoch."""
    return sequential(count)
