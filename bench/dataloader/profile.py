"""Where the loader's time goes: decode, crop, each op, hand-over, on one thread.

The kernels carry no clocks. Instead the real `Decoder` renders the same samples with nothing but the decode, then with
the crops, then with one op more at a time, each with its true probability; what a step adds is what it costs there, in
the company of the steps before it. All variants take turns, and each time is a median, so the shares sum to 1. Ops of
the jitter share passes over the image: the first of them pays for what they share.

The time is the processor's, not the wall's, so that other programs disturb it less. Views are written in place, so
there is nothing to pack; the hand-over is what the `Loader` takes beyond the `Decoder`: memory, batches, the thread.
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

CHUNK = 64  # images, as many as the loader gives a thread at once with its usual batch and one thread


@dataclass(frozen=True)
class Step:
    """us_per_view: microseconds, the decode's divided among the views of an image. spread: interquartile range of it
    over the rounds, also in microseconds. share: of the whole."""

    name: str
    us_per_view: float
    spread: float
    share: float


def profile(beton: Beton, views: Sequence[View], images: int, batch: int, rounds: int) -> list[Step]:
    """The steps in their order, over the first `images` samples; batch: of the loader, for the hand-over.

    Ops that no view has are absent.
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
                    if number > 0:  # the first round warms kernels, buffers and page cache
                        seconds[name].append(time.process_time() - start)
                    advance()
    return _steps({name: np.array(times) / (images * len(views)) * 1e6 for name, times in seconds.items()})


def variants(views: Sequence[View]) -> list[tuple[str, tuple[View, ...]]]:
    """(step, views): no view, the bare crops, then one op more at a time; the last one is `views` itself."""
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
    """With that part of an op, if the full view has it."""
    op, settings = OPS[field], getattr(full, field)
    switched_on: dict[str, Any] = {field: part(settings) if op.row(settings)[-1] > 0 else op.off}
    return replace(bare, **switched_on)


def text(steps: Sequence[Step]) -> str:
    """A line a step, and their sum."""
    lines = [f"{'':20}{'us a view':>10}{'spread':>10}{'share':>9}"]
    lines += [f"{s.name:20}{s.us_per_view:10.1f}{s.spread:10.1f}{s.share:9.1%}" for s in steps]
    return "\n".join([*lines, f"{'all':20}{sum(s.us_per_view for s in steps):10.1f}{'':10}{1:9.1%}"])


def _steps(times: dict[str, np.ndarray]) -> list[Step]:
    """What each variant adds to the one before it. times: microseconds a view by variant, one a round."""
    whole = statistics.median(times["hand-over"])
    steps, before = [], np.zeros_like(times["hand-over"])
    for name, now in times.items():
        added = float(np.median(now) - np.median(before))
        spread = float(np.subtract(*np.quantile(now - before, [0.75, 0.25])))
        steps.append(Step(name, added, spread, added / whole))
        before = now
    return steps


def _renderer(decoder: Decoder, beton: Beton, views: tuple[View, ...], samples: np.ndarray) -> Callable[[int], None]:
    """A function: epoch -> all views of the samples, rendered into one buffer that stays in place."""
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
    for _ in batches:
        pass
