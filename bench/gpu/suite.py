"""The steps of `twoview suite gpu`, most valuable first, in so many minutes.

Each step runs in a process of its own, so that its peak of memory is its own and an error on the device ends it alone,
and leaves its record as it ends. A record that is there is kept, so a suite that was cut off goes on. A step that does
not fit into the minutes left is skipped by name. One that takes more than its own time is ended, and one that fails
ends by itself: its record says why it stopped, and has what was measured by then.

The steps have run on a CPU with tiny sizes. How long they take on a GPU (`minutes`) is supposed.
"""

import os
import tarfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from bench import evidence, own_process
from bench.evidence import DeviceFigures
from bench.experiment import Place
from bench.gpu import beside_lightly, cifar, correctness, graphs, rates, steps
from bench.gpu.scale import HEADLINE, Context, Scale, Skipped
from bench.progress import console
from loaders.files import whole_file
from loaders.names import look_up
from methods.registry import METHODS

# What steps import, besides this module: seconds that each of their processes is spared.
PRELOAD = ("bench.gpu.suite", "timm", "torch._dynamo", "torch._inductor.compile_fx")
LETTING_GO = 10  # seconds that a process may take to end once its answer is there, or it was told to end
PATIENCE = 2  # times its supposed time, which a step may take
# Most asked first; what is not named here comes behind, as it is registered.
ASKED = ("simclr", "byol", "moco", "barlow", "vicreg", "mae", "msn", "supcon", "supervised")


@dataclass(frozen=True)
class Step:
    """run yields the record called `name` as far as it is measured, the last time whole.

    minutes: that it takes, supposed; with fewer left it is not begun. It may take PATIENCE times as long, or `share` of
    the minutes left where that is more, but no more than is left.
    """

    name: str
    minutes: float
    run: Callable[[Context], Iterator[DeviceFigures]]
    share: float = 0.0


def all_steps() -> list[Step]:
    """Most valuable first: FIRST takes about five minutes, and so do the steps behind them up to some methods."""
    whole_batch, half_batch = (Step(name, 2, partial(rates.measure, name=name)) for name in (rates.NAME, rates.HALF))
    headline, *budgets = (
        Step(steps.budget_name(name), 0.2 if name == HEADLINE else 0.4, partial(steps.of_budget, names=alike))
        for name, alike in steps.budgets().items()
    )
    views, *other_views = (
        Step(correctness.views_name(preset), 0.8, partial(correctness.views, preset=preset))
        for preset in correctness.PRESETS
    )
    methods = sorted(METHODS, key=lambda name: ASKED.index(name) if name in ASKED else len(ASKED))
    return [
        Step("gpu-losses", 0.6, correctness.losses),
        views,
        whole_batch,
        headline,
        Step(cifar.EPOCH, 1.3, cifar.clock_epochs),
        # Its share leaves room for the steps behind it.
        Step(cifar.TIME, 1.5, cifar.train, share=0.6),
        Step(graphs.NAME, 0.8, graphs.of_cifar),
        *(Step(steps.method_name(name), 0.4, partial(steps.of_method, method=name)) for name in methods),
        Step(beside_lightly.NAME, 2, beside_lightly.measure),
        half_batch,
        *other_views,
        *(Step(graphs.name_of(name), 0.5, partial(graphs.of_method, method=name)) for name in methods),
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


def run(
    folder: Path,
    place: Place,
    minutes: float,
    scale: Scale,
    only: Sequence[str] = (),
    pack: Path | None = None,
) -> list[str]:
    """Runs what has no record in `folder` yet; returns the steps that failed, a check that is off among them.

    only: the names of the steps to run; by default all. pack: a tar.gz of all records, written anew after every step.
    ValueError for no minutes, a name that no step has, or where torch sees no device of the scale's kind.
    """
    if minutes <= 0:
        raise ValueError(f"--minutes must be above 0, got {minutes:g}")
    if scale.where.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "suite gpu needs a CUDA device, and torch sees none here; to try it: --device cpu --scale tiny"
        )
    steps = {step.name: step for step in all_steps()}
    todo = [look_up("step", name, steps) for name in only] or list(steps.values())
    ends, failed = time.monotonic() + 60 * minutes, []
    for number, step in enumerate(todo, 1):
        heading, path = f"[{number}/{len(todo)}] {step.name}", evidence.path_of(folder, step.name)
        left = ends - time.monotonic()
        if path.exists():
            _say(f"{heading}: {_kept(path)}")
            continue
        if left < 60 * step.minutes:
            _say(f"{heading}: skipped: it takes about {step.minutes:g} min, and {max(left, 0) / 60:.1f} min are left")
            continue
        seconds = min(left, max(60 * PATIENCE * step.minutes, step.share * left))
        _say(f"{heading}: may take {seconds:.0f} s")
        begun = time.monotonic()
        outcome = _apart(step, Context(scale, place, folder, begun + seconds))
        took = f"{time.monotonic() - begun:.0f} s"
        if isinstance(outcome, Skipped):
            _say(f"{heading}: skipped after {took}: {outcome}")
            continue
        evidence.write(outcome, folder)
        if pack:
            packed(folder, pack)
        _say(f"{heading}: {'stopped after' if outcome.stopped else 'finished in'} {took}{_off(outcome)}")
        if outcome.stopped or _off(outcome):
            failed.append(step.name)
    return failed


def _kept(path: Path) -> str:
    record = evidence.read(path)
    if isinstance(record, DeviceFigures) and record.stopped:
        return f"stopped before ({record.stopped}), kept; remove {path} to measure it again"
    return "finished before, kept"


def _off(record: DeviceFigures) -> str:
    """What to say of the checks that failed."""
    words = [f"{one.work}: {one.figure} {one.median:.3g} {one.unit}" for one in record.figures if one.off]
    return f"; beyond tolerance: {'; '.join(words)}" if words else ""


def packed(folder: Path, path: Path) -> None:
    """All records of the folder as one tar.gz."""
    with whole_file(path) as part, tarfile.open(part, "w:gz") as archive:
        for record in evidence.paths(folder):
            archive.add(record, record.relative_to(folder))


def _apart(step: Step, context: Context) -> DeviceFigures | Skipped:
    """The step in a process forked from one that has imported everything and asked nothing of the GPU's driver, which
    would be of no use to a fork of it.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # so that torch.cuda.is_available() does not ask it, either
    forks = own_process.forks(PRELOAD)
    ours, its = forks.Pipe(duplex=False)
    process = forks.Process(target=_answer, args=(step, context, its))
    process.start()
    its.close()
    latest, stopped, ended = None, "", False
    try:
        while not stopped:
            if not ours.poll(max(context.ends - time.monotonic(), 0)):
                stopped = "its time was over"
                break
            answer = ours.recv()
            if isinstance(answer, DeviceFigures):
                latest = answer
            elif isinstance(answer, Skipped) and latest is None:
                return answer
            else:
                stopped = str(answer)
    except EOFError:  # it is done, or it died
        process.join(LETTING_GO)
        ended = process.exitcode is not None
        if process.exitcode or latest is None:
            stopped = f"its process ended with {process.exitcode}"
    finally:
        ours.close()
        if not ended:
            process.terminate()
        process.join(LETTING_GO)
        if process.is_alive():
            process.kill()
            process.join()
    record = latest or DeviceFigures(name=step.name, device=context.scale.device, figures=[])
    return record.model_copy(update={"stopped": stopped})


def _answer(step: Step, context: Context, connection: Connection) -> None:
    """Sends the record as it grows; or why there is none, or no more."""
    own_process.end_with_parent()  # a suite that is killed leaves nothing behind on the device
    try:
        for record in step.run(context):
            connection.send(record)
    except Skipped as reason:
        connection.send(reason)
    except torch.OutOfMemoryError as error:
        connection.send(Skipped(_one_line(error)))
    except Exception as error:  # whatever it is, the other steps can still be measured
        traceback.print_exc()
        connection.send(_one_line(error))
    finally:
        connection.close()  # so that a process that lingers is seen to be done


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _say(text: str) -> None:
    console.print(text, markup=False)
