"""The steps of `twoview suite gpu`, most valuable first, in so many minutes.

Each step runs in a process of its own, so that its peak of memory is its own and an error on the device ends it alone,
and leaves its record as it ends. A record that is there is kept, so a suite that was cut off goes on. A step that does
not fit into the minutes left is skipped by name. What a step has measured by now lies in the folder `stopped`, whatever
ends it, and says why it stopped; the next run measures such a step again.

How long a step takes (`minutes`) was measured on an H200 with 16 cores, or is supposed after the most similar one that
was: beside lightly, the half batch and the budgets have not run on a GPU.
"""

import math
import os
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from twoview.bench import evidence
from twoview.bench.config.experiment import Place
from twoview.bench.evidence import DeviceFigures
from twoview.bench.runtime import processes as own_process
from twoview.bench.runtime.locks import alone
from twoview.bench.runtime.progress import console
from twoview.bench.suites.gpu import beside_lightly, cifar, correctness, graphs, rates, steps
from twoview.bench.suites.gpu.scale import HEADLINE, Context, Scale, Skipped
from twoview.loaders import limits
from twoview.loaders.files import whole_file
from twoview.loaders.names import look_up
from twoview.methods.registry import METHODS

# What steps import, besides this module: seconds that each of their processes is spared.
PRELOAD = ("twoview.bench.suites.gpu.suite", "timm", "torch._dynamo", "torch._inductor.compile_fx")
LETTING_GO = 10  # seconds that a process may take to end once its answer is there, or it was killed
STOPPED = "stopped"  # folder beside the records, of what stopped steps had measured
UNDER_WAY = "the suite was ended"  # why a step stopped, as long as nothing better is known
PATIENCE = 2  # times its `minutes`, which a step may take


@dataclass(frozen=True)
class Step:
    """run yields the record called `name` as far as it is measured, the last time whole.

    minutes: that it takes; with fewer left it is not begun. It may take PATIENCE times as long, or `share` of the
    minutes left where that is more, but no more than is left. One with a share may take all that is left if it is the
    last of its plan.
    """

    name: str
    minutes: float
    run: Callable[[Context], Iterator[DeviceFigures]]
    share: float = 0.0


def all_steps() -> list[Step]:
    """Most valuable first: FIRST takes five minutes, and five more bring what is behind it up to some methods."""
    whole_batch, half_batch = (Step(name, 2, partial(rates.measure, name=name)) for name in (rates.NAME, rates.HALF))
    headline, *budgets = (
        Step(steps.budget_name(name), 0.3, partial(steps.measure_budget, names=same_cost))
        for name, same_cost in steps.budgets().items()
    )
    views, *other_views = (
        # The first one comes before any kernel of the loader's is compiled.
        Step(correctness.views_name(preset), 0.4 if number else 1, partial(correctness.views, preset=preset))
        for number, preset in enumerate(correctness.PRESETS)
    )
    return [
        Step("gpu-losses", 0.4, correctness.losses),
        views,
        whole_batch,
        headline,
        Step(cifar.EPOCH, 1.2, cifar.clock_epochs),
        # Its share leaves room for the steps behind it.
        Step(cifar.TIME, 1.5, cifar.train, share=0.6),
        Step(graphs.NAME, 0.5, graphs.measure_cifar),
        *(Step(steps.method_name(name), 0.3, partial(steps.measure_method, method=name)) for name in METHODS),
        Step(beside_lightly.NAME, 2, beside_lightly.measure),
        half_batch,
        *other_views,
        *(Step(graphs.name_of(name), 0.3, partial(graphs.measure_method, method=name)) for name in METHODS),
        *budgets,
    ]


# What a first quarter of an hour must bring: `twoview suite gpu --only` of these takes about five minutes.
FIRST = (
    "gpu-losses",
    correctness.views_name(correctness.PRESETS[0]),
    rates.NAME,
    steps.budget_name(HEADLINE),
    cifar.EPOCH,
)


def plan(minutes: float, only: Sequence[str]) -> list[Step]:
    """The steps of these names, by default all. ValueError for a name that no step has, and for no minutes."""
    if not 0 < minutes < math.inf:
        raise ValueError(f"--minutes must be a number above 0, got {minutes:g}")
    steps = {step.name: step for step in all_steps()}
    return [look_up("step", name, steps) for name in dict.fromkeys(only)] or list(steps.values())


def run(
    folder: Path,
    place: Place,
    minutes: float,
    scale: Scale,
    only: Sequence[str] = (),
    pack: Path | None = None,
) -> list[str]:
    """Runs what has no record in `folder` yet; returns the steps that stopped, a check that is off among them.

    only: the names of the steps to run; by default all. pack: a tar.gz of all records, written anew as they come.
    ValueError for no minutes, a name that no step has, or where torch sees no device of the scale's kind; OSError
    where nothing can be written, or another suite writes there now.
    """
    todo = plan(minutes, only)
    if scale.where.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "suite gpu needs a CUDA device, and torch sees none here; to try it: --device cpu --scale tiny"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "the folder"):
        return _run(todo, folder, place, minutes, scale, pack)


def _run(
    todo: Sequence[Step], folder: Path, place: Place, minutes: float, scale: Scale, pack: Path | None
) -> list[str]:
    with tempfile.TemporaryFile(dir=folder):
        pass  # it can be written
    if pack:
        packed(folder, pack)
    keep = partial(_keep, folder=folder, pack=pack)
    ends, failed = time.monotonic() + 60 * minutes, []
    for number, step in enumerate(todo, 1):
        heading = f"[{number}/{len(todo)}] {step.name}"
        left = ends - time.monotonic()
        if _finished(folder, step.name):
            _say(f"{heading}: finished before, kept")
            continue
        if left < 60 * step.minutes:
            _say(f"{heading}: skipped: it takes about {step.minutes:g} min, and {max(left, 0) / 60:.1f} min are left")
            continue
        seconds = may_take(step, left, last=number == len(todo))
        _say(f"{heading}: may take {seconds:.0f} s")
        begun = time.monotonic()
        outcome = _run_in_process(step, Context(scale, place, folder, begun + seconds), keep)
        took = f"{time.monotonic() - begun:.0f} s"
        if isinstance(outcome, Skipped):
            _say(f"{heading}: skipped after {took}: {outcome}")
            continue
        keep(outcome)
        words = f"stopped after {took}: {outcome.stopped}" if outcome.stopped else f"finished in {took}"
        _say(f"{heading}: {words}{_off(outcome)}")
        if outcome.stopped or _off(outcome):
            failed.append(step.name)
    return failed


def may_take(step: Step, left: float, last: bool) -> float:
    """Seconds, of those that are left."""
    share = 1.0 if step.share and last else step.share
    return min(left, max(60 * PATIENCE * step.minutes, share * left))


def _finished(folder: Path, name: str) -> bool:
    """Whether the step's record is there. One that cannot be read is put aside."""
    path = evidence.path_of(folder, name)
    if not path.exists():
        return False
    try:
        evidence.read(path)
    except ValueError as damaged:
        damaged_path = path.with_suffix(".damaged")
        path.replace(damaged_path)
        _say(f"{damaged}; it is {damaged_path} now, and measured again")
        return False
    return True


def _keep(record: DeviceFigures, folder: Path, pack: Path | None) -> None:
    """Writes the record, whole or as far as it is, and packs all. That the pack cannot be written is said."""
    if record.stopped:
        evidence.write_part(record, folder / STOPPED)
    else:
        evidence.write(record, folder)
        evidence.path_of(folder / STOPPED, record.name).unlink(missing_ok=True)
    if pack:
        try:
            packed(folder, pack)
        except OSError as error:
            _say(f"{pack} could not be written: {error}; the records are in {folder}")


def _off(record: DeviceFigures) -> str:
    """What to say of the checks that failed."""
    words = [f"{one.work}: {one.name} {one.median:.3g} {one.kind.unit}" for one in record.figures if one.off]
    return f"; beyond tolerance: {'; '.join(words)}" if words else ""


def packed(folder: Path, path: Path) -> None:
    """All records of the folder as one tar.gz."""
    with whole_file(path) as part, tarfile.open(part, "w:gz") as archive:
        for record in evidence.paths(folder):
            archive.add(record, record.relative_to(folder))


def _run_in_process(step: Step, context: Context, keep: Callable[[DeviceFigures], None]) -> DeviceFigures | Skipped:
    """The step in a process forked from one that has imported everything and asked nothing of the GPU's driver, which
    would be of no use to a fork of it. keep: gets the record as it grows, as one that was stopped.

    Not by `processes.run`, which waits for one answer: a step has a deadline, and its record comes in parts.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # so that torch.cuda.is_available() does not ask it, either
    forks = own_process.forks(PRELOAD)
    ours, its = forks.Pipe(duplex=False)
    process = forks.Process(target=_answer, args=(step, context, its))
    process.start()
    its.close()
    record = DeviceFigures(name=step.name, device=context.scale.device, figures=[])
    whole = False
    try:
        while True:
            if not ours.poll(max(context.ends - time.monotonic(), 0)):
                return record.model_copy(update={"stopped": "its time was over"})
            answer = ours.recv()
            if isinstance(answer, DeviceFigures):
                record = answer
                keep(record.model_copy(update={"stopped": UNDER_WAY}))
            elif isinstance(answer, Skipped):
                return answer
            else:
                whole = answer == ""
                return record.model_copy(update={"stopped": answer})
    except EOFError:
        process.join(LETTING_GO)
        return record.model_copy(update={"stopped": f"its process ended with {process.exitcode}"})
    finally:
        ours.close()
        if whole:
            process.join(LETTING_GO)
        process.kill()
        process.join(LETTING_GO)  # one that the driver holds is left behind


def _answer(step: Step, context: Context, connection: Connection) -> None:
    """Sends the record as it grows, and in the end why it stopped: nothing, if it is whole."""
    own_process.end_with_parent()  # a suite that is killed leaves nothing behind on the device
    try:
        for record in step.run(context):
            connection.send(record)
        connection.send("")
    except Skipped as reason:
        connection.send(reason)
    except Exception as error:  # whatever it is, the other steps can still be measured
        traceback.print_exc()
        connection.send(_one_line(error))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[: limits.TEXT.value]


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
