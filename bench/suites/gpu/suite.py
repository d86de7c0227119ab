"""The steps of `twoview suite gpu`, run most valuable first within a time limit in minutes.

Each step runs in a process of its own, so that its peak memory is its own and an error on the device ends no other
step, and writes its record when it ends. Existing records are kept, so a suite that was interrupted continues. A step
that does not fit into the remaining minutes is skipped, and its name is printed. If a step is stopped for any reason,
its measurements so far are in the folder `stopped`, with the reason; the next run measures such a step again.

The duration of a step (`minutes`) was measured on an H200 with 16 cores, or is assumed from the most similar measured
step: the comparison with lightly, the half batch and the budgets have not run on a GPU.
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
from twoview.bench.suites.gpu import cifar, correctness, graphs, rates, steps, with_lightly
from twoview.bench.suites.gpu.scale import HEADLINE, Context, Scale, Skipped
from twoview.loaders import limits
from twoview.loaders.files import whole_file
from twoview.loaders.names import look_up
from twoview.methods.registry import METHODS

# Modules that steps import. They are loaded once before the processes are forked, which saves each of them seconds.
PRELOAD = ("twoview.bench.suites.gpu.suite", "timm", "torch._dynamo", "torch._inductor.compile_fx")
LETTING_GO = 10  # seconds that a process may take to end after its answer, or after it was killed
STOPPED = "stopped"  # folder, next to the records, for the measurements of stopped steps
UNDER_WAY = "the suite was interrupted"  # the reason why a step stopped, until a better one is known
PATIENCE = 2  # how many times its `minutes` a step may take


@dataclass(frozen=True)
class Step:
    """A step of the suite. run yields the record called `name` as far as it is measured; the last one is complete.

    minutes: expected duration; with less time left the step is not begun. It may take PATIENCE times as long, or
    `share` of the remaining time if that is more, but never more than remains. A step with a share may use all the
    remaining time if it is the last one to run.
    """

    name: str
    minutes: float
    run: Callable[[Context], Iterator[DeviceFigures]]
    share: float = 0.0


def all_steps() -> list[Step]:
    """Return all steps, most valuable first. FIRST takes five minutes; five more reach some of the methods."""
    whole_batch, half_batch = (Step(name, 2, partial(rates.measure, name=name)) for name in (rates.NAME, rates.HALF))
    headline, *budgets = (
        Step(steps.budget_name(name), 0.3, partial(steps.measure_budget, names=same_cost))
        for name, same_cost in steps.budgets().items()
    )
    views, *other_views = (
        # The first one also compiles the loader's kernels.
        Step(correctness.views_name(preset), 0.4 if number else 1, partial(correctness.views, preset=preset))
        for number, preset in enumerate(correctness.PRESETS)
    )
    return [
        Step("gpu-losses", 0.4, correctness.losses),
        views,
        whole_batch,
        headline,
        Step(cifar.EPOCH, 1.2, cifar.clock_epochs),
        # Its share leaves time for the steps after it.
        Step(cifar.TIME, 1.5, cifar.train, share=0.6),
        Step(graphs.NAME, 0.5, graphs.measure_cifar),
        *(Step(steps.method_name(name), 0.3, partial(steps.measure_method, method=name)) for name in METHODS),
        Step(with_lightly.NAME, 2, with_lightly.measure),
        half_batch,
        *other_views,
        *(Step(graphs.name_of(name), 0.3, partial(graphs.measure_method, method=name)) for name in METHODS),
        *budgets,
    ]


# The steps that must fit into a first quarter of an hour: `twoview suite gpu --only` with them takes five minutes.
FIRST = (
    "gpu-losses",
    correctness.views_name(correctness.PRESETS[0]),
    rates.NAME,
    steps.budget_name(HEADLINE),
    cifar.EPOCH,
)


def plan(minutes: float, only: Sequence[str]) -> list[Step]:
    """Return the steps named in `only`, in that order, or all steps if it is empty.

    minutes: the suite's time, which is only checked here.
    Raises ValueError for an unknown name, or if minutes is not above 0.
    """
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
    """Run the steps that have no record in `folder` yet, and return the names of those that stopped or failed a check.

    only: names of the steps to run; by default all. pack: a tar.gz of all records, rewritten whenever one is new.
    Raises ValueError if minutes is not above 0, a name is unknown, or torch does not see the device of the scale, and
    OSError if `folder` or `pack` cannot be written, or another suite is writing there.
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
    """Run these steps in their order, as `run` does, in a folder that no other suite uses."""
    with tempfile.TemporaryFile(dir=folder):
        pass  # the folder can be written
    if pack:
        packed(folder, pack)
    keep = partial(_keep, folder=folder, pack=pack)
    ends, failed = time.monotonic() + 60 * minutes, []
    for number, step in enumerate(todo, 1):
        heading = f"[{number}/{len(todo)}] {step.name}"
        left = ends - time.monotonic()
        if _finished(folder, step.name):
            _say(f"{heading}: already finished")
            continue
        if left < 60 * step.minutes:
            _say(f"{heading}: skipped: it takes about {step.minutes:g} min, and {max(left, 0) / 60:.1f} min are left")
            continue
        seconds = may_take(step, left, last=number == len(todo))
        _say(f"{heading}: started, time limit {seconds:.0f} s")
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
    """Return the seconds that a step may take. left: remaining seconds. last: whether it is the last step."""
    share = 1.0 if step.share and last else step.share
    return min(left, max(60 * PATIENCE * step.minutes, share * left))


def _finished(folder: Path, name: str) -> bool:
    """Return whether the step's record exists. One that cannot be read is renamed to `.damaged`."""
    path = evidence.path_of(folder, name)
    if not path.exists():
        return False
    try:
        evidence.read(path)
    except ValueError as damaged:
        damaged_path = path.with_suffix(".damaged")
        path.replace(damaged_path)
        _say(f"{damaged}; it was renamed to {damaged_path}, and the step will be measured again")
        return False
    return True


def _keep(record: DeviceFigures, folder: Path, pack: Path | None) -> None:
    """Write the record, complete or not, and pack all records. A pack that cannot be written is reported."""
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
    """Return words about the checks that failed; empty if none did."""
    words = [f"{one.work}: {one.name} {one.median:.3g} {one.kind.unit}" for one in record.figures if one.off]
    return f"; beyond tolerance: {'; '.join(words)}" if words else ""


def packed(folder: Path, path: Path) -> None:
    """Write all records of the folder as one tar.gz."""
    with whole_file(path) as part, tarfile.open(part, "w:gz") as archive:
        for record in evidence.paths(folder):
            archive.add(record, record.relative_to(folder))


def _run_in_process(step: Step, context: Context, keep: Callable[[DeviceFigures], None]) -> DeviceFigures | Skipped:
    """Run the step in a forked process, and return its record, or why it was skipped.

    It is forked from a process that has imported everything but never called the GPU's driver, because a fork could not
    use the GPU after that. keep: called with the record as it grows, marked as stopped. `processes.run` cannot be used
    here: it waits for one answer, while a step has a deadline and sends its record in parts.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # torch.cuda.is_available() does not call the driver, either
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
                return record.model_copy(update={"stopped": "it reached its time limit"})
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
        return record.model_copy(update={"stopped": f"its process ended with exit code {process.exitcode}"})
    finally:
        ours.close()
        if whole:
            process.join(LETTING_GO)
        process.kill()
        process.join(LETTING_GO)  # a process that hangs in the driver is left behind


def _answer(step: Step, context: Context, connection: Connection) -> None:
    """Send the record as it grows, and in the end the reason why it stopped, which is empty if it is complete."""
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
    """Return an error's type and message on one line, cut to the longest text that a record may hold."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[: limits.TEXT.value]


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
