"""How long training steps take and how long they wait for data: CUDA events on a GPU, the host's clock elsewhere."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from twoview.methods.parts import part

B = TypeVar("B")


class StepClock:
    """Measures the seconds of each step and of the wait for its batch.

        clock = StepClock(device)
        for batch in clock.batches(loader.epoch(0)):
            with clock.step():
                ...

    On a GPU the times are CUDA events on the current stream. A wait is then the time that the device was idle for lack
    of a batch, not the time that the host looked for one while the device still worked. The host never waits for the
    events during an epoch: events that have completed are read while new ones are recorded, and `read` gets the rest.

    warmup: number of first steps, which compile, tune and fill caches. Their seconds go to `warmup_seconds` instead of
    `step_seconds`, and their waits are dropped.
    """

    def __init__(self, device: torch.device, warmup: int = 0) -> None:
        self.warmup_seconds: list[float] = []
        self.step_seconds: list[float] = []
        self.wait_seconds: list[float] = []
        self._on_gpu = device.type == "cuda"
        self._left_to_warm = warmup
        self._marks: list[float | torch.cuda.Event] = []  # when the batch of the current step was asked for
        # Of each step that is not read yet: when its batch was asked for, when it began, and when it ended.
        self._pending: deque[list[float | torch.cuda.Event]] = deque()

    def batches(self, batches: Iterable[B]) -> Iterator[B]:
        """Yield the same batches and measure the wait for each."""
        source = iter(batches)
        while True:
            self._marks = [self._mark()]
            try:
                with part("data wait"):
                    batch = next(source)
            except StopIteration:
                return
            yield batch

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure the code in this context as one step; it must include all work that the step gives the device.

        A step that raises is not counted.
        """
        begun = self._mark()
        asked = self._marks[0] if self._marks else begun
        yield
        self._pending.append([asked, begun, self._mark()])
        self._marks = []
        self._read_past()

    def read(self) -> None:
        """Wait for the device and read all times that are left. Call it at the end of an epoch, not inside one."""
        if self._on_gpu:
            torch.cuda.current_stream().synchronize()
        self._read_past()

    def _mark(self) -> float | torch.cuda.Event:
        """Return the present time: an event on a GPU, seconds of the host's clock elsewhere."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _read_past(self) -> None:
        """Turn the marks of completed steps into seconds, in order, without waiting for the device."""
        while self._pending and _is_past(self._pending[0][-1]):
            asked, begun, ended = self._pending.popleft()
            seconds = _between(begun, ended)
            if self._left_to_warm:
                self._left_to_warm -= 1
                self.warmup_seconds.append(seconds)
            else:
                self.wait_seconds.append(_between(asked, begun))
                self.step_seconds.append(seconds)


def _is_past(mark: float | torch.cuda.Event) -> bool:
    return isinstance(mark, float) or bool(mark.query())


def _between(first: float | torch.cuda.Event, last: float | torch.cuda.Event) -> float:
    """Return the seconds between two marks of the same kind."""
    if isinstance(first, float) or isinstance(last, float):
        return last - first  # type: ignore[operator]  # both are of one kind
    return float(first.elapsed_time(last)) / 1000  # CUDA events give milliseconds
