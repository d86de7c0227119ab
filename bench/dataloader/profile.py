"""Profile of the loader on one thread: the time of decoding, cropping, each op (augmentation), and the hand-over.

The kernels contain no timers. Instead the real `Decoder` renders the same samples first with decoding alone, then with
the crops, then with one more op at a time, each with its true probability. The time that a step adds to the steps
before it is its cost. All variants take turns, and each time is a median, so the shares sum to 1. The ops
of color jitter share passes over the image, whose cost is counted for the first of these ops.

The time is CPU time, not wall time, so that other programs disturb it less. Views are written in place, without
packing. The hand-over is the time of the `Loader` in addition to the `Decoder`: for memory, batches and its thread.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from twoview.bench.runtime.progress import progress
from twoview.loaders.beton import Beton
from twoview.loaders.decode import Decoder, output_layout, view_table
from twoview.loaders.loader import Loader
from twoview.loaders.samplers import sequential
from twoview.loaders.views import OPS, View, without_ops

CHUNK = 64  # images rendered in one call, as in the loader with one thread and its usual batch


@dataclass(frozen=True)
class Step:
    """The cost of one step of the loader.

    us_per_view: microseconds per view; decoding is done once per image and divided among its views. spread:
    interquartile range over the rounds, in microseconds per view. share: of the total time, from 0 to 1.
    """

    name: str
    us_per_view: float
    spread: float
    share: float


def profile(beton: Beton, views: Sequence[View], images: int, batch: int, rounds: int) -> list[Step]:
    """Measure the steps on the first `images` samples of a beton file and return them in the loader's order.

    batch: images in a batch of the loader, for the hand-over. rounds: measurements of each variant, after a warm-up.
    Ops that no view has are omitted.
    """
    samples = sequential(images)
    with Decoder() as decoder, Loader(beton, views, batch, indices=samples, drop_last=False) as loader:
        work = {name: _renderer(decoder, beton, variant, samples) for name, variant in variants(views)}
        work["hand-over"] = lambda epoch: _exhaust(loader.epoch(epoch))
        seconds: dict[str, list[float]] = {name: [] for name in work}
        with progress(f"profile {beton.path.stem}", (1 + rounds) * len(work)) as advance:
            for number in range(1 + rounds):
                for name, one in work.items():
                    start = time.process_time()
                    one(number)
                    if number > 0:  # the first round warms up kernels, buffers and the page cache
                        seconds[name].append(time.process_time() - start)
                    advance()
    return _steps({name: np.array(times) / (images * len(views)) * 1e6 for name, times in seconds.items()})


def variants(views: Sequence[View]) -> list[tuple[str, tuple[View, ...]]]:
    """Return steps with their views: no views, crops without ops, then one more op at a time, up to `views`."""
    last = tuple(without_ops(view) for view in views)
    found: list[tuple[str, tuple[View, ...]]] = [("decode", ()), ("crop, resize, flip", last)]
    for field, op in OPS.items():
        for name, part in op.steps.items():
            grown = tuple(_grown(bare, full, field, part) for bare, full in zip(last, views, strict=True))
            if grown != last:
                found.append((name, grown))
                last = grown
    return found


def _grown(bare: View, full: View, field: str, part: Callable[[Any], Any]) -> View:
    """Return the bare view with this part of the op in `field` added, if the full view has it."""
    op, settings = OPS[field], getattr(full, field)
    switched_on: dict[str, Any] = {field: part(settings) if op.row(settings)[-1] > 0 else op.off}
    return replace(bare, **switched_on)


def text(steps: Sequence[Step]) -> str:
    """Return the steps as a text table, one line each and one for their sum."""
    lines = [f"{'step':20}{'time per view (us)':>20}{'spread (us)':>13}{'share':>9}"]
    lines += [f"{s.name:20}{s.us_per_view:20.1f}{s.spread:13.1f}{s.share:9.1%}" for s in steps]
    return "\n".join([*lines, f"{'all':20}{sum(s.us_per_view for s in steps):20.1f}{'':13}{1:9.1%}"])


def _steps(times: dict[str, np.ndarray]) -> list[Step]:
    """Return the time that each variant adds to the last. times: microseconds per view by variant, one per round."""
    whole = statistics.median(times["hand-over"])
    steps, before = [], np.zeros_like(times["hand-over"])
    for name, now in times.items():
        added = float(np.median(now) - np.median(before))
        spread = float(np.subtract(*np.quantile(now - before, [0.75, 0.25])))
        steps.append(Step(name, added, spread, added / whole))
        before = now
    return steps


def _renderer(decoder: Decoder, beton: Beton, views: tuple[View, ...], samples: np.ndarray) -> Callable[[int], None]:
    """Return a function of the epoch that renders all views of the samples, into a reused buffer."""
    table = view_table(views)
    offsets, size = output_layout(views, CHUNK)
    out = np.empty(size, np.uint8)

    def render(epoch: int) -> None:
        for first in range(0, len(samples), CHUNK):
            chunk = samples[first : first + CHUNK]
            status = decoder.render(beton.layout, chunk, table, 0, epoch, out, offsets, 0)
            if status.any():
                raise ValueError(f"{beton.path}: sample {chunk[np.argmax(status != 0)]} cannot be decoded")

    return render


def _exhaust(batches: Iterable[object]) -> None:
    """Iterate over all batches."""
    for _ in batches:
        pass
