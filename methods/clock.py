"""How long steps take and how long they wait for data: by events of the device on a GPU, else by the host's clock."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from twoview.methods.parts import part

B = TypeVar("B")


class StepClock:
    """Seconds of each step and of the wait for its batch.

        clock = StepClock(device)
        for batch in clock.batches(loader.epoch(0)):
            with clock.step():
                ...

    On a GPU the marks are events on the current stream, so that a wait is the time the device stood idle for a batch,
    not the time the host looked for one while the device still worked. The host never waits for them: those that are
    past are read as new ones are made, the rest by `read`.

    warmup: so many first steps compile, tune and fill caches; their seconds go to `warmup_seconds`, without waits.
    """

    def __init__(self, device: torch.device, warmup: int = 0) -> None:
        self.warmup_seconds: list[float] = []
        self.step_seconds: list[float] = []
        self.wait_seconds: list[float] = []
        self._on_gpu = device.type == "cuda"
        self._left_to_warm = warmup
        self._marks: list[float | torch.cuda.Event] = []  # of the step under way
        self._pending: deque[list[float | torch.cuda.Event]] = deque()  # asked, begun, ended of each step not yet read

    def batches(self, batches: Iterable[B]) -> Iterator[B]:
        """The same batches; the wait for each is measured."""
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
        """Around everything that a step makes the device do. A step that raises is not counted."""
        begun = self._mark()
        asked = self._marks[0] if self._marks else begun
        yield
        self._pending.append([asked, begun, self._mark()])
        self._marks = []
        self._read_past()

    def read(self) -> None:
        """Reads all marks, waiting for the device: at the end of an epoch, not inside one."""
        if self._on_gpu:
            torch.cuda.current_stream().synchronize()
        self._read_past()

    def _mark(self) -> float | torch.cuda.Event:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _read_past(self) -> None:
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
    """Seconds."""
    if isinstance(first, float) or isinstance(last, float):
        return last - first  # type: ignore[operator]  # both are of one kind
    return float(first.elapsed_time(last)) / 1000
