"""Where the time of a training step goes: a trace of some steady steps by torch's profiler, and a page that sums it up.

The parts of a step are ranges that trainer, clock, transfer and loader name (methods/parts.py). On a CPU the time of a
part is the time of its range without the ranges inside it. On a GPU it is the time of the kernels that were launched in
the range, whenever they ran. While no kernel runs, the time goes to a copy, else to a wait for data, and else the
device is idle. So the parts do not overlap, and the host's work while the device computes does not count.
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

# Numbers of steps: before the profiler starts, profiled but thrown away as its warmup, and recorded.
BEFORE, WARMUP, STEPS = 5, 2, 10
OPERATORS = 12  # number of operators on the page
IDLE, OTHER, COPY = "idle", "other", "copy"
PARTS = (
    "data wait", "augment", COPY, "normalize", "forward", "backward", "optimizer", "after step", "graph", "checkpoint",
    OTHER,
)  # fmt: skip
WAITS = ("data wait", "checkpoint")  # parts in which a device without work waits for the host


class Span(NamedTuple):
    """An interval of time that belongs to a part, in microseconds.

    rank: where spans overlap, the time goes to the one with the highest rank, and among equals to the latest begun.
    """

    start: float
    end: float
    part: str
    rank: int = 0


@dataclass(frozen=True)
class Row:
    """The time of a part or an operator.

    ms: milliseconds per step. share: share of the step. calls: calls per step; 0 for a part, which is not called.
    """

    name: str
    ms: float
    share: float
    calls: float = 0


@dataclass(frozen=True)
class Summary:
    """The profile of a training run. Times are in milliseconds per step.

    steps: number of recorded steps.
    step_ms: time of a step with the profiler, which slows the host. plain_ms: the median time without it.
    hidden_copy_ms: copies to the device that ran while it computed; they belong to no part.
    parts: the parts of a step, which do not overlap, with `idle` as the last.
    operators: the operators that took longest, each without the operators inside it.
    trace: path of the trace file.
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
        """Return the profile as a dictionary for JSON."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The page for a reader: a table of the parts, and one of the operators."""
        lines = [
            f"{self.name}: {self.steps} steps on {self.device}, {self.step_ms:.2f} ms each with the profiler and "
            f"{self.plain_ms:.2f} ms without it",
            *(f"{row.name:44}{row.ms:10.2f} ms {row.share:7.1%}" for row in self.parts),
            f"{'total':44}{sum(row.ms for row in self.parts):10.2f} ms {sum(row.share for row in self.parts):7.1%}",
        ]
        if self.hidden_copy_ms:
            lines.append(f"{'copies hidden behind computing':44}{self.hidden_copy_ms:10.2f} ms")
        lines.append(f"\n{'operators by self time':44}{'':21}calls per step")
        lines += [f"{row.name[:43]:44}{row.ms:10.2f} ms {row.share:7.1%}{row.calls:14.1f}" for row in self.operators]
        return "\n".join([*lines, "", f"trace, for ui.perfetto.dev or chrome://tracing: {self.trace}"])


class StepProfiler:
    """Profiles steps of a training run, after its first five, and writes PATH.trace.json and PATH.txt.

    The trained weights are the same as without the profiler. summary: the profile, None until the steps are recorded.
    """

    def __init__(self, path: Path) -> None:
        self.trace, self.page = (path.with_name(f"{path.name}{end}") for end in (".trace.json", ".txt"))
        self.name = path.name
        self.summary: Summary | None = None

    @contextmanager
    def watching(self, trainer: Trainer, steps: int) -> Iterator[Callable[[], None]]:
        """Profile during the block, and yield a function to be called after each step of `trainer.fit`.

        steps: number of steps that the training run will take. Raises ValueError if these are too few.
        """
        if steps < BEFORE + WARMUP + STEPS:
            raise ValueError(f"--profile needs {BEFORE + WARMUP + STEPS} steps, and {self.name} has only {steps} left")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise torch prints to stderr when it starts and stops
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
                # So that all kernels of the recorded steps, and no others, run within these steps.
                torch.cuda.synchronize(device)
            if done <= BEFORE + WARMUP + STEPS:
                profiler.step()

        with _normalize_named(trainer), profiler:
            yield on_step

    def _finish(self, profiler: Any, device: torch.device, moments: list[float]) -> None:
        """Write trace and page. moments: when the profiling began and when each step ended, in seconds."""
        with whole_file(self.trace) as temporary:
            profiler.export_chrome_trace(str(temporary))
        events = json.loads(self.trace.read_text())["traceEvents"]
        step_us, parts, hidden = divided(events)
        # The steps before the profiler started, without the first two.
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
    """Make normalization a named part during the block.

    It is not a named part of a compiled step, which fuses normalization into a kernel of the forward pass.
    """
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
    """Divide the steps of a Chrome trace into their parts.

    Returns microseconds per step: of the whole step, of each part by name, and of copies hidden behind computing.
    """
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
    # With a GPU its kernels and copies replace the host's ranges, except for the waits.
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
    """Yield each kernel and copy as a span of the part in which the host launched it, from any thread."""
    launched = {
        event["args"]["correlation"]: _start(event)
        for event in events
        if _is(event, "cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {})
    }
    ranges = segments(host, begin, end)
    starts = [segment.start for segment in ranges]
    for event in work:
        at = launched.get(event["args"].get("correlation"), begin - 1)
        if at < begin:  # launched in an earlier step
            continue
        name = ranges[bisect_right(starts, at) - 1].part
        rank = 1 if name == COPY else 2
        yield Span(max(_start(event), begin), min(_end(event), end), OTHER if name == IDLE else name, rank)


def segments(spans: Iterable[Span], begin: float, end: float) -> list[Span]:
    """Divide the time from `begin` to `end`, without gaps, among the spans; time that no span covers is idle."""
    # Sweep over the beginnings (1) and ends (0) of all spans in order of time; at one moment the ends come first.
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
    """Return the operators that took the longest time by themselves, on the GPU if there is one."""
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    averages = [one for one in profiler.key_averages() if not one.is_user_annotation]
    averages.sort(key=lambda one: -getattr(one, own))
    return [
        Row(one.key, getattr(one, own) / STEPS / 1000, getattr(one, own) / STEPS / step_us, one.count / STEPS)
        for one in averages[:OPERATORS]
    ]


def _is(event: dict[str, Any], *categories: str) -> bool:
    """Return whether the event has one of these categories."""
    return event.get("cat") in categories


def _start(event: dict[str, Any]) -> float:
    return float(event["ts"])


def _end(event: dict[str, Any]) -> float:
    return float(event["ts"]) + float(event["dur"])
