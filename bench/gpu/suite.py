"""The steps of `twoview suite gpu`, most valuable first, in so many minutes.

Each step runs in a process of its own, so that its peak of memory is its own and an error on the device ends it alone,
and leaves its record as it ends. A record that is there is kept, so a suite that was cut off goes on. A step that does
not fit into the minutes left is skipped by name; one that overruns them is ended.

The steps have run on a CPU with tiny sizes, in the tests. How long they take on a card (`minutes`) is supposed.
"""

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from bench import evidence, own_process
from bench.evidence import DeviceFigures
from bench.experiment import Place
from bench.gpu import beside_lightly, cifar, correctness, graphs, rates, steps
from bench.gpu.scale import Context, Scale, Skipped
from bench.progress import console
from methods.registry import METHODS

LETTING_GO = 30  # seconds that a process may take to end once its answer is there, or it was told to end


@dataclass(frozen=True)
class Step:
    """run gives the record called `name`. minutes: that it takes, supposed; with fewer left it is not begun."""

    name: str
    minutes: float
    run: Callable[[Context], DeviceFigures]


def all_steps(scale: Scale) -> Iterator[Step]:
    """Most valuable first."""
    yield Step("gpu-losses", 0.5, correctness.losses)
    yield Step("gpu-views", 2, correctness.views)
    for batch in scale.batches:
        yield Step(rates.name_of(batch), 4, partial(rates.measure, batch=batch))
    yield Step(cifar.EPOCH, 2, cifar.clock_epochs)
    yield Step(cifar.TIME, 3, cifar.train)  # a quarter of an hour and its judging, in one run or several
    for method in METHODS:
        yield Step(steps.method_name(method), 0.7, partial(steps.of_method, method=method))
    yield Step(graphs.NAME, 3, graphs.measure)
    for name, alike in steps.budgets().items():
        yield Step(steps.budget_name(name), 0.7, partial(steps.of_budget, names=alike))
    yield Step(beside_lightly.NAME, 3, beside_lightly.measure)


def run(folder: Path, place: Place, minutes: float, scale: Scale | None = None) -> list[str]:
    """Runs what has no record in `folder` yet; returns the steps that failed, a check that is off among them.

    ValueError for no minutes, or where there is no CUDA device and `scale` names no other.
    """
    if minutes <= 0:
        raise ValueError(f"--minutes must be above 0, not {minutes:g}")
    if scale is None:
        if not torch.cuda.is_available():
            raise ValueError("suite gpu needs a CUDA device, and torch sees none here")
        scale = Scale()
    context = Context(scale, place, folder, time.monotonic() + 60 * minutes)
    todo, failed = list(all_steps(scale)), []
    for number, step in enumerate(todo, 1):
        heading = f"[{number}/{len(todo)}] {step.name}"
        left = (context.ends - time.monotonic()) / 60
        if evidence.path_of(folder, step.name).exists():
            _say(f"{heading}: finished before, kept")
        elif left < step.minutes:
            _say(f"{heading}: skipped, because it takes about {step.minutes:g} minutes and {max(left, 0):.1f} are left")
        else:
            _say(heading)
            outcome = _apart(step, context)
            if isinstance(outcome, DeviceFigures):
                evidence.write(outcome, folder)
                if off := [figure for figure in outcome.figures if figure.off]:
                    words = [f"{figure.work}: {figure.figure} {figure.median:.3g} {figure.unit}" for figure in off]
                    _say(f"{heading}: beyond tolerance: {'; '.join(words)}")
                    failed.append(step.name)
            elif isinstance(outcome, Skipped):
                _say(f"{heading}: skipped: {outcome}")
            else:
                _say(f"{heading}: failed: {outcome}")
                failed.append(step.name)
    return failed


Outcome = DeviceFigures | Skipped | str  # what it measured, why it did not, or what went wrong


def _apart(step: Step, context: Context) -> Outcome:
    """The step in a process forked from one that has imported everything and touched no device."""
    forks = own_process.forks(["bench.gpu.suite"])
    ours, its = forks.Pipe(duplex=False)
    process = forks.Process(target=_answer, args=(step, context, its))
    process.start()
    its.close()
    try:
        if not ours.poll(max(context.ends - time.monotonic(), 0)):
            process.terminate()
            return "the minutes were over"
        outcome: Outcome = ours.recv()
        return outcome
    except EOFError:
        process.join()
        return f"its process ended with {process.exitcode}"
    except BaseException:  # interrupted
        process.terminate()
        raise
    finally:
        ours.close()
        process.join(LETTING_GO)
        if process.is_alive():
            process.kill()
            process.join()


def _answer(step: Step, context: Context, connection: Connection) -> None:
    own_process.end_with_parent()  # a suite that is killed leaves nothing behind on the device
    try:
        connection.send(step.run(context))
    except Skipped as reason:
        connection.send(reason)
    except torch.OutOfMemoryError as error:
        connection.send(Skipped(" ".join(str(error).split())))
    except Exception:  # whatever it is, the other steps can still be measured
        connection.send(traceback.format_exc())


def _say(text: str) -> None:
    console.print(text, markup=False)
