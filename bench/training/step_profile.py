"""Where a training step's time goes: a trace of some steady steps by torch's profiler, and one page about it.

The parts are ranges that trainer, clock, transfer and loader name (methods/parts.py). On a CPU a part's time is that
of the range without the ranges inside it. On a GPU it is that of the kernels launched in the range, whenever they ran;
where none runs, the time is that of a copy, or of a wait for data, and else the device is idle. So the parts are
disjoint, and all that the host did meanwhile does not count.
"""

import json
import os
import statistics
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity

from twoview.loaders.files import whole_file
from twoview.methods.parts import part
from twoview.methods.trainer import Trainer

BEFORE, WARMUP, STEPS = 5, 2, 10  # steps: not seen, seen and forgotten by torch's profiler, recorded
OPERATORS = 12  # on the page
IDLE, OTHER, COPY = "idle", "other", "copy"
PARTS = (
    "data wait", "augment", COPY, "normalize", "forward", "backward", "optimizer", "after step", "graph", "checkpoint",
    OTHER,
)  # fmt: skip
WAITS = ("data wait", "checkpoint")  # in which a device without work waits for the host


class Span(NamedTuple):
    """Microseconds. Of two at one moment the one of the higher rank has the time, among equals the later begun."""

    start: float
    end: float
    part: str
    rank: int = 0


@dataclass(frozen=True)
class Row:
    """ms: milliseconds a step. share: of the step. calls: a step; 0 for a part, which has no calls."""

    name: str
    ms: float
    share: float
    calls: float = 0


@dataclass(frozen=True)
class Summary:
    """Milliseconds a step. step_ms: with the profiler running, which slows the host; plain_ms: the median without it.

    parts: disjoint, `idle` the last. operators: those that took longest, each without the operators inside it.
    hidden_copy_ms: copies to the device that ran while it computed, in no part.
    """

    name: str
    device: str
    steps: int
    step_ms: float
    plain_ms: float
    hidden_copy_ms: float
    parts: list[Row]
    operators: list[Row]
    trace: str

    def as_result(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def text(self) -> str:
        lines = [
            f"{self.name}: {self.steps} steps on {self.device}, {self.step_ms:.2f} ms each under the profiler and "
            f"{self.plain_ms:.2f} ms without it",
            *(f"{row.name:44}{row.ms:10.2f} ms {row.share:7.1%}" for row in self.parts),
            f"{'all':44}{sum(row.ms for row in self.parts):10.2f} ms {sum(row.share for row in self.parts):7.1%}",
        ]
        if self.hidden_copy_ms:
            lines.append(f"{'copies behind the computing':44}{self.hidden_copy_ms:10.2f} ms")
        lines.append(f"\n{'operators, their own time':44}{'':21}  calls a step")
        lines += [f"{row.name[:43]:44}{row.ms:10.2f} ms {row.share:7.1%}{row.calls:14.1f}" for row in self.operators]
        return "\n".join([*lines, "", f"trace, for ui.perfetto.dev or chrome://tracing: {self.trace}"])


class StepProfiler:
    """Watches a training from its sixth step on, and leaves PATH.trace.json and PATH.txt.

    The trained weights are those of a training that nobody watches. summary: once the steps are recorded.
    """

    def __init__(self, path: Path) -> None:
        self.trace, self.page = (path.with_name(f"{path.name}{end}") for end in (".trace.json", ".txt"))
        self.name = path.name
        self.summary: Summary | None = None

    @contextmanager
    def watching(self, trainer: Trainer, steps: int) -> Iterator[Callable[[], None]]:
        """Gives what is to be called after each step of `trainer.fit`. steps: that it will take.

        ValueError if these are too few.
        """
        if steps < BEFORE + WARMUP + STEPS:
            raise ValueError(f"--profile needs {BEFORE + WARMUP + STEPS} steps, and {self.name} has {steps} to go")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else torch says on stderr when it starts and stops
        device, moments = trainer.device, [time.perf_counter()]
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
        schedule = torch.profiler.schedule(wait=BEFORE, warmup=WARMUP, active=STEPS, repeat=1)
        profiler = torch.profiler.profile(
            activities=activities,
            schedule=schedule,
            on_trace_ready=lambda done: self._finish(done, device, moments),
            acc_events=True,
        )

        def on_step() -> None:
            moments.append(time.perf_counter())
            done = len(moments) - 1
            if device.type == "cuda" and done in (BEFORE + WARMUP, BEFORE + WARMUP + STEPS):
                torch.cuda.synchronize(device)  # what the recorded steps launched ends in their time, and no more
            if done <= BEFORE + WARMUP + STEPS:
                profiler.step()

        with _normalize_named(trainer), profiler:
            yield on_step

    def _finish(self, profiler: Any, device: torch.device, moments: list[float]) -> None:
        with whole_file(self.trace) as temporary:
            profiler.export_chrome_trace(str(temporary))
        events = json.loads(self.trace.read_text())["traceEvents"]
        step_us, parts, hidden = divided(events)
        plain = [1000 * (after - before) for before, after in pairwise(moments[2 : BEFORE + 1])]
        self.summary = Summary(
            name=self.name,
            device=str(device),
            steps=STEPS,
            step_ms=step_us / 1000,
            plain_ms=statistics.median(plain),
            hidden_copy_ms=hidden / 1000,
            parts=[Row(name, us / 1000, us / step_us) for name, us in parts.items()],
            operators=_operators(profiler, device, step_us),
            trace=str(self.trace),
        )
        with whole_file(self.page) as temporary:
            temporary.write_text(self.summary.text + "\n")


@contextmanager
def _normalize_named(trainer: Trainer) -> Iterator[None]:
    """Names the normalizing, unless the step is compiled: then it is a line of a kernel of the forward pass."""
    if trainer.compiled:
        yield
        return
    open_ranges: list[Any] = []

    def begin(*_: object) -> None:
        open_ranges.append(part("normalize"))
        open_ranges[-1].__enter__()

    def end(*_: object) -> None:
        open_ranges.pop().__exit__(None, None, None)

    hooks = trainer.normalize.register_forward_pre_hook(begin), trainer.normalize.register_forward_hook(end)
    yield
    for hook in hooks:
        hook.remove()


def divided(events: Iterable[dict[str, Any]]) -> tuple[float, dict[str, float], float]:
    """A Chrome trace's steps, divided: microseconds a step, those of each part, and those of hidden copies."""
    events = [event for event in events if event.get("ph") == "X"]
    steps = [event for event in events if _is(event, "user_annotation") and event["name"].startswith("ProfilerStep#")]
    begin, end = min(map(_start, steps)), max(map(_end, steps))
    thread = steps[0]["tid"]
    host = [
        Span(_start(event), _end(event), event["name"])
        for event in events
        if _is(event, "user_annotation") and event["name"] in PARTS and event["tid"] == thread
    ]
    spans = host
    if work := [event for event in events if _is(event, "kernel", "gpu_memcpy", "gpu_memset")]:
        spans = list(_on_device(work, events, host, begin, end)) + [span for span in host if span.part in WAITS]
    times: dict[str, float] = defaultdict(float)
    for segment in segments(spans, begin, end):
        times[segment.part] += segment.end - segment.start
    copies = sum(span.end - span.start for span in spans if span.part == COPY) if work else times[COPY]
    hidden = max(0.0, copies - times[COPY])
    ordered = [name for name in PARTS if times[name]] + [IDLE]
    return (end - begin) / len(steps), {name: times[name] / len(steps) for name in ordered}, hidden / len(steps)


def _on_device(
    work: list[dict[str, Any]], events: list[dict[str, Any]], host: list[Span], begin: float, end: float
) -> Iterator[Span]:
    """Each kernel and copy as a span of the part in which the host launched it, in whatever thread."""
    launched = {
        event["args"]["correlation"]: _start(event)
        for event in events
        if _is(event, "cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {})
    }
    ranges = segments(host, begin, end)
    starts = [segment.start for segment in ranges]
    for event in work:
        at = launched.get(event["args"].get("correlation"), begin - 1)
        if at < begin:  # of a step before
            continue
        name = ranges[bisect_right(starts, at) - 1].part
        rank = 1 if name == COPY else 2
        yield Span(max(_start(event), begin), min(_end(event), end), OTHER if name == IDLE else name, rank)


def segments(spans: Iterable[Span], begin: float, end: float) -> list[Span]:
    """From begin to end without a gap: who has which time."""
    marks: list[tuple[float, int, Span]] = []
    for span in spans:
        start, stop = max(span.start, begin), min(span.end, end)
        if start < stop:
            marks += [(start, 1, span), (stop, 0, span)]
    marks.sort(key=itemgetter(0, 1))
    marks.append((end, 1, Span(end, end, IDLE)))
    found: list[Span] = []
    under_way: list[Span] = []
    at = begin
    for moment, begins, span in marks:
        if moment > at:
            owner = max(under_way, key=lambda one: (one.rank, one.start)).part if under_way else IDLE
            found.append(Span(at, moment, owner))
            at = moment
        (under_way.append if begins else under_way.remove)(span)
    return found


def _operators(profiler: Any, device: torch.device, step_us: float) -> list[Row]:
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    averages = [one for one in profiler.key_averages() if not one.is_user_annotation]
    averages.sort(key=lambda one: -getattr(one, own))
    return [
        Row(one.key, getattr(one, own) / STEPS / 1000, getattr(one, own) / STEPS / step_us, one.count / STEPS)
        for one in averages[:OPERATORS]
    ]


def _is(event: dict[str, Any], *categories: str) -> bool:
    return event.get("cat") in categories


def _start(event: dict[str, Any]) -> float:
    return float(event["ts"])


def _end(event: dict[str, Any]) -> float:
    return float(event["ts"]) + float(event["dur"])
