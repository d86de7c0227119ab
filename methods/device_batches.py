"""Move batches to the device that trains, on a GPU while the previous batch is still being trained on."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from twoview.methods.parts import part

AHEAD = 4  # most steps that the host may launch before the GPU has finished them


class BatchLike(Protocol):
    """The interface of a batch, such as `Batch` in `loaders/loader.py`. For the shapes, see `DeviceBatch`."""

    @property
    def views(self) -> tuple[Tensor, ...]: ...
    @property
    def label(self) -> Tensor: ...
    @property
    def masks(self) -> tuple[Tensor, ...]: ...


class DeviceBatch(NamedTuple):
    """A batch on the device that trains.

    views: uint8 (B, 3, H, W) each. label: int64 (B,). masks: int64 (B, kept) each, the numbers of the patches kept.
    """

    views: tuple[Tensor, ...]
    label: Tensor
    masks: tuple[Tensor, ...] = ()

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return *self.views, self.label, *self.masks


def map_tensors(batch: BatchLike, change: Callable[[Tensor], Tensor]) -> DeviceBatch:
    """Return the batch with `change` applied to each of its tensors."""
    return DeviceBatch(tuple(map(change, batch.views)), change(batch.label), tuple(map(change, batch.masks)))


def on_device(batches: Iterator[BatchLike], device: torch.device) -> Iterator[DeviceBatch]:
    """Yield each batch on the device.

    On a GPU, each batch is copied on a separate CUDA stream while the model trains on the previous one; for this
    overlap the batches must be in page-locked (pinned) memory. A loader that makes its batches on the GPU makes them on
    that stream too, so the training stream waits only for batches that are late. On other devices, batches are moved
    one at a time.

    The host can launch steps faster than the GPU finishes them, and each unfinished step keeps its batch in GPU memory.
    So at most AHEAD steps may be unfinished before the host waits for the oldest.
    """
    if device.type != "cuda":
        for batch in batches:
            with part("copy"):
                moved = map_tensors(batch, lambda tensor: tensor.to(device))
            yield moved
        return
    stream = _stream(device)
    stream.wait_stream(torch.cuda.current_stream())  # a loader may just have copied its images to the device
    ahead: tuple[DeviceBatch, torch.cuda.Event] | None = None  # the next batch, and the event after its copy
    ends: deque[torch.cuda.Event] = deque()  # the ends of steps that may not be finished
    while True:
        if len(ends) == AHEAD:
            ends.popleft().synchronize()
        with torch.cuda.stream(stream):
            if (following := next(batches, None)) is None:
                break
            with part("copy"):
                moved = map_tensors(following, lambda tensor: tensor.to(device, non_blocking=True))
                copied = stream.record_event()
        if ahead:
            yield _handed_over(*ahead)
            ends.append(torch.cuda.Event(blocking=True))  # the host waits asleep: the loader's threads need the CPU
            ends[-1].record()
        ahead = moved, copied
    if ahead:
        yield _handed_over(*ahead)


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream for copies, one for all epochs: torch reuses a stream's freed memory for that stream only."""
    return torch.cuda.Stream(device)


def _handed_over(moved: DeviceBatch, copied: torch.cuda.Event) -> DeviceBatch:
    """Return the batch after making the training stream wait for its copy.

    Its memory is not reused before the training stream is done with it.
    """
    training = torch.cuda.current_stream()
    training.wait_event(copied)
    for tensor in moved.tensors:
        tensor.record_stream(training)
    return moved
