"""The cost of a loss: time and peak memory of forward and backward, compared with lightly's version if it has one.

There are two sides, ours and lightly's. Each side of each round runs in a process of its own, forked from one that has
imported torch and done nothing else, so that its peak memory is due to one loss at one batch size. Losses and sides
take turns, and the results are medians over the rounds.
"""

import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from twoview.bench.measurement.memory import PeakMemory
from twoview.bench.runtime.processes import try_run
from twoview.bench.runtime.progress import progress
from twoview.methods.losses.example import Loss
from twoview.methods.registry import examples

BATCHES = (256, 1024, 8192)
SECONDS = 0.2  # a step is repeated for this long, and runs at least once
CLASSES = 10  # number of classes of the labels, with the same number of embeddings each


class Job(NamedTuple):
    """One measurement: a loss of one side on two views of (batch, dim) embeddings."""

    loss: str
    side: str  # twoview or lightly
    batch: int
    dim: int


def measure(batches: Sequence[int], dim: int, rounds: int) -> dict[str, Any]:
    """Measure every loss at every batch size and return one row for each, with the device, threads and dim.

    A row has `ms` and `peak_mib` of our loss, and the same keys for lightly's under `lightly`, which is None if lightly
    has no such loss. A side that cannot run, because it is out of memory or lightly is not installed, has the key
    `absent` with the reason instead.
    batches: rows of each of the two views. dim: width of the embeddings.
    Raises ValueError if a batch size, dim or rounds is too small, or if dim is odd.
    """
    for name, value, least in (*(("--batches", b, 2) for b in batches), ("--dim", dim, 2), ("--rounds", rounds, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if dim % 2:
        raise ValueError(f"--dim must be even, because concat halves it, got {dim}")
    timed = {name: example for name, example in examples().items() if example.timed}
    jobs = [
        Job(loss, side, batch, dim)
        for batch in batches
        for loss, example in timed.items()
        for side in ("twoview", "lightly")
        if side == "twoview" or example.lightly
    ]
    found: dict[Job, list[dict[str, Any]]] = {job: [] for job in jobs}
    with progress("losses", rounds * len(jobs)) as advance:
        for _ in range(rounds):
            for job in jobs:
                found[job].append(_in_its_own_process(job))
                advance()

    def row(loss: str, batch: int) -> dict[str, Any]:
        ours, theirs = (found.get(Job(loss, side, batch, dim)) for side in ("twoview", "lightly"))
        return {"loss": loss, "batch": batch, **_medians(ours or []), "lightly": _medians(theirs) if theirs else None}

    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "dim": dim,
        "rows": [row(loss, batch) for batch in batches for loss in timed],
    }


def table(result: dict[str, Any]) -> str:
    """Return the rows as a text table, one line each."""
    head = f"{'loss':13} {'batch':>6} {'time (ms)':>10} {'memory (MiB)':>12}"
    lines = [f"{head} {'lightly (ms)':>12} {'lightly (MiB)':>13}"]
    for row in result["rows"]:
        theirs = row["lightly"] or {}
        reason = next((side["absent"] for side in (row, theirs) if "absent" in side), "")
        cells = f"{_number(row, 'ms'):>10} {_number(row, 'peak_mib'):>12}"
        cells += f" {_number(theirs, 'ms'):>12} {_number(theirs, 'peak_mib'):>13}"
        lines.append(f"{row['loss']:13} {row['batch']:6} {cells} {reason}".rstrip())
    return "\n".join(lines)


def cost(job: Job) -> dict[str, float]:
    """Run forward and backward in this process; return `ms`, the median of the repeats, and the added `peak_mib`.

    `peak_mib` is the peak memory of the first run minus the memory in use before it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    _step(job._replace(batch=min(job.batch, 256)), device)()  # warm-up: starts threads, loads kernels, fills allocators
    step = _step(job, device)
    memory = PeakMemory()
    before, seconds = _held(memory), [_seconds(step)]
    peak = _held(memory)
    while sum(seconds) < SECONDS:
        seconds.append(_seconds(step))
    return {"ms": 1000 * statistics.median(seconds), "peak_mib": peak - before}


def _step(job: Job, device: torch.device) -> Callable[[], None]:
    """Return a function that runs the job's loss forward and backward once, on random embeddings."""
    loss = (theirs if job.side == "lightly" else ours)(job.loss, job.dim, device)
    label = torch.arange(job.batch, device=device) % CLASSES
    z1, z2 = (torch.randn(job.batch, job.dim, device=device, requires_grad=True) for _ in range(2))

    def step() -> None:
        z1.grad = z2.grad = None
        loss(z1, z2, label).backward()  # type: ignore[no-untyped-call]

    return step


def ours(name: str, dim: int, device: torch.device) -> Loss:
    """Return our loss with this name, with the settings that are timed."""
    example = examples()[name]
    return example.at_scale(dim, device) if example.at_scale else example.loss


def theirs(name: str, dim: int, device: torch.device) -> Loss:
    """Return lightly's counterpart of our loss with this name."""
    lightly = examples()[name].lightly
    assert lightly is not None
    loss = getattr(importlib.import_module("lightly.loss"), lightly.name)(**lightly.arguments(dim)).to(device)
    beside = lightly.beside(dim, device)
    return lambda z1, z2, label: loss(z1, z2, **beside)


def _seconds(step: Callable[[], None]) -> float:
    """Return the wall time of a step, until the GPU has finished it."""
    start = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _held(memory: PeakMemory) -> float:
    """Return the peak memory so far in MiB: the GPU's if there is one, else the process's."""
    return memory.host_mib if memory.device_mib is None else memory.device_mib


def _in_its_own_process(job: Job) -> dict[str, Any]:
    """Return `cost` of the job, measured in a new process, or `absent` with the reason."""
    return try_run(cost, job, ["twoview.bench.costs.loss_cost", "lightly.loss"])


def _medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over a side's rounds, or `absent` with the reason if a round failed."""
    for one in rounds:
        if "absent" in one:
            return one
    medians = {key: statistics.median(one[key] for one in rounds) for key in ("ms", "peak_mib")}
    return {**medians, "rounds_ms": [one["ms"] for one in rounds]}


def _number(side: dict[str, Any], key: str) -> str:
    return f"{side[key]:.1f}" if key in side else ""
