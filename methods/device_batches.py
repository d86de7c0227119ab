"""Batches on their way to the device that trains."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from twoview.methods.parts import part

AHEAD = 4


class BatchLike(Protocol):
    """The `Batch` of loaders/loader.py, by its shape."""

    @property
    def views(self) -> tuple[Tensor, ...]: ...
    @property
    def label(self) -> Tensor: ...
    @property
    def masks(self) -> tuple[Tensor, ...]: ...


class DeviceBatch(NamedTuple):
    """A batch on the device that trains: uint8 (B, 3, H, W) views, an int64 (B,) label, int64 (B, kept) masks."""

    views: tuple[Tensor, ...]
    label: Tensor
    masks: tuple[Tensor, ...] = ()

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return *self.views, self.label, *self.masks


def map_tensors(batch: BatchLike, change: Callable[[Tensor], Tensor]) -> DeviceBatch:
    """The batch, each of its tensors changed."""
    return DeviceBatch(tuple(map(change, batch.views)), change(batch.label), tuple(map(change, batch.masks)))


def on_device(batches: Iterator[BatchLike], device: torch.device) -> Iterator[DeviceBatch]:
    """Each batch on the device. On a GPU they are copied on a stream of their own while the batch before them trains,
    which needs page-locked memory; elsewhere they are handed on as they are. A loader that makes its batches on the GPU
    makes them on that stream, so the stream that trains stands only for what is late.

    A host that launches steps faster than the GPU takes them waits at AHEAD of them: each has a batch on the GPU.
    """
    if device.type != "cuda":
        for batch in batches:
            with part("copy"):
                moved = map_tensors(batch, lambda tensor: tensor.to(device))
            yield moved
        return
    stream = _stream(device)
    stream.wait_stream(torch.cuda.current_stream())  # for the images that a loader has put on the device
    ahead: tuple[DeviceBatch, torch.cuda.Event] | None = None
    ends: deque[torch.cuda.Event] = deque()  # of the steps that may not be over
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
            ends.append(torch.cuda.Event(blocking=True))  # asleep, for the loader's threads need the processor
            ends[-1].record()
        ahead = moved, copied
    if ahead:
        yield _handed_over(*ahead)


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all epochs: torch keeps the memory that was allocated on a stream for that stream."""
    return torch.cuda.Stream(device)


def _handed_over(moved: DeviceBatch, copied: torch.cuda.Event) -> DeviceBatch:
    """The stream that trains waits for the copy, whose memory is not given away before that stream is done with it."""
    training = torch.cuda.current_stream()
    training.wait_event(copied)
    for tensor in moved.tensors:
        tensor.record_stream(training)
    return moved
