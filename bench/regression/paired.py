"""Measure old and new code in turn in one session, so that a noisy machine widens the interval without failing a build.

Each side has a process of its own that runs the code of its folder. A round is one turn of each side, in random order,
both on the same cores. The cores are drawn anew for each round, because one of them may be slower for minutes. After
TRIAL_ROUNDS rounds both processes are replaced, because a process may keep a difference of some percent for as long as
it lives; the interval is bootstrapped over these pairs of processes. Before every turn a fixed piece of work,
`calibration.py`, times the machine itself. Where that time surely differs between the sides, the interval is widened by
the difference at both ends. More pairs are run until the interval can tell the allowed loss from twice that loss, or
until the largest number of rounds is reached.
"""

import io
import random
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from twoview.bench.config import experiment, recipe
from twoview.bench.config.experiment import Place
from twoview.bench.dataloader.rates import job_for
from twoview.bench.dataloader.targets import TABLE, LoaderWork
from twoview.bench.measurement import bootstrap
from twoview.bench.measurement.bootstrap import Cost
from twoview.bench.measurement.calibration import Calibration
from twoview.bench.peers.job import Job, StepJob
from twoview.bench.peers.race import TWOVIEW, Process, Unavailable
from twoview.bench.regression.compare import Comparison, Row
from twoview.bench.runtime.cores import confine, cores, cpu_count
from twoview.bench.runtime.progress import progress

Name = Literal["old", "new"]
SIDES: tuple[Name, Name] = ("old", "new")
TURN = 0.05  # minimum seconds of a turn: passes are repeated until they have elapsed
WARMUP = 3  # first rounds of a pair, which are not counted
TRIAL_ROUNDS = 15  # counted rounds of a pair of processes
FEWEST = 4 * TRIAL_ROUNDS  # rounds before the interval is first checked; from then on it is checked after every pair
REACH = 0.4  # half the interval's width, over the allowed loss: a loss of twice that is then surely beyond it
CALIBRATION_MIB = 3  # size of the fixed work: about 2 ms per core, a small part of a turn
BATCHES = 2  # batches of the loader in one pass


def _by_side() -> dict[Name, list[float]]:
    return {side: [] for side in SIDES}


@dataclass
class Trial:
    """The measurements of one pair of processes, by side.

    seconds: time per image, one value per round. calibration: seconds of the machine's fixed work before each turn.
    peak_mib, device_mib: peak host and device memory up to the last round, in MiB.
    """

    seconds: dict[Name, list[float]] = field(default_factory=_by_side)
    calibration: dict[Name, list[float]] = field(default_factory=_by_side)
    peak_mib: dict[Name, float] = field(default_factory=dict)
    device_mib: dict[Name, float] = field(default_factory=dict)


@dataclass
class Rounds:
    """Everything that was measured: rounds of at least two pairs of processes."""

    trials: list[Trial] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(trial.seconds["new"]) for trial in self.trials)

    @property
    def machine(self) -> Cost:
        """The machine's time for its fixed work: the ratio of the time before new's turns to the time before old's."""
        return self._in_turn("calibration")

    @property
    def cost(self) -> Cost:
        """The ratio of new's time to old's, widened by the difference of the machine."""
        return self._in_turn("seconds").widened(self.machine)

    def _in_turn(self, what: Literal["seconds", "calibration"]) -> Cost:
        """Return the ratio of new to old, with the interval over pairs of processes."""
        old, new = ([getattr(trial, what)[side] for trial in self.trials] for side in SIDES)
        return bootstrap.trial_cost(old, new)

    @property
    def note(self) -> str:
        """One sentence on how far the interval can be trusted."""
        scores = [score for trial in self.trials for side in SIDES for score in trial.calibration[side]]
        lower, middle, upper = np.quantile(scores, [0.25, 0.5, 0.75])
        return (
            f"{len(self)} rounds by {len(self.trials)} pairs of processes; the machine's calibration took"
            f" {1000 * middle:.2f} ms, quartiles {1000 * lower:.2f} to {1000 * upper:.2f}, and before new's turns"
            f" {self.machine.ratio:.3f} times as long as before old's, 95 % interval {self.machine.low:.3f} to"
            f" {self.machine.high:.3f}"
        )


class Sides:
    """The work of both sides, each with the code of its folder.

    Raises ValueError if a folder is not a checkout of twoview.
    """

    def __init__(self, old: Path, new: Path, job: Job | StepJob) -> None:
        self.job, self.trees = job, {"old": old.resolve(), "new": new.resolve()}
        for tree in self.trees.values():
            if not (tree / "twoview" / "bench" / "peers" / "worker.py").is_file():
                raise ValueError(f"{tree} is not a checkout of twoview: it has no twoview/bench/peers/worker.py")
        self.machine = Calibration(CALIBRATION_MIB)

    def __enter__(self) -> Self:
        self.machine.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.machine.__exit__(*error)

    def trial(self, shuffle: random.Random) -> Trial:
        """Measure TRIAL_ROUNDS rounds, after the warm-up, with a new pair of processes."""
        trial = Trial()
        with ExitStack() as stack:
            processes = {side: stack.enter_context(self._process(side)) for side in SIDES}  # they start together
            for side in SIDES:
                self._asked(side, processes[side].answer)
            for number in range(WARMUP + TRIAL_ROUNDS):
                self._round(processes, trial if number >= WARMUP else Trial(), shuffle)
        return trial

    def _process(self, side: Name) -> Process:
        return Process(TWOVIEW, self.job, tree=self.trees[side], openmp=self.job.threads)

    def _round(self, processes: dict[Name, Process], trial: Trial, shuffle: random.Random) -> None:
        """Run a turn of each side, in random order on the same cores, and add what it measured to the trial."""
        on = shuffle.sample(cores(), self.job.threads)
        for side in shuffle.sample(SIDES, 2):
            confine(processes[side].process.pid, on)
            trial.calibration[side].append(self.machine.seconds(on))
            answer = self._asked(side, processes[side].work_a_round)
            trial.seconds[side].append(1 / answer["images_per_s"])
            trial.peak_mib[side] = answer["peak_mib"]
            if answer["device_mib"] is not None:
                trial.device_mib[side] = answer["device_mib"]

    def _asked(self, side: Name, what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the answer of a side's process. Raises ValueError, naming the side, if it cannot do the work."""
        try:
            return what()
        except Unavailable as reason:
            raise ValueError(f"the {side} code in {self.trees[side]} cannot do the work: {reason}") from None


def compare_code(
    old: str, new: str, work: str, place: Place, allowed: float, threads: int, most: int, seed: int = 0
) -> Comparison:
    """Compare the speed and memory of two versions of the code on one work.

    old, new: the folder of a checkout, or a commit. work: the name of a loader measurement or of a recipe, see `job`.
    allowed: share by which new may be worse. most: largest number of rounds. Raises ValueError if a side cannot do the
    work, for fewer rounds than an interval needs, or for more threads than cores.
    """
    if most < FEWEST:
        raise ValueError(f"--rounds must be at least {FEWEST}, got {most}")
    if not 1 <= threads <= cpu_count():
        raise ValueError(f"--threads must be from 1 to {cpu_count()}, the number of cores, got {threads}")
    asked = job(work, place).model_copy(update={"threads": threads, "seconds": TURN})
    with tree(old) as before, tree(new) as after, Sides(before, after, asked) as sides:
        rounds = measure(sides, allowed, most, f"{work}, {old} and {new} in turn", seed)
    return Comparison(_rows(work, rounds, allowed), notes=[rounds.note])


def _rows(work: str, rounds: Rounds, allowed: float) -> list[Row]:
    """Return a row for the rate and, where they were measured, for the peaks of host and device memory."""
    old, new = (1 / np.median([second for trial in rounds.trials for second in trial.seconds[side]]) for side in SIDES)
    rows = [Row(work, "rate", "images/s", "more", old, new, rounds.cost, allowed, (len(rounds), len(rounds)))]
    for name, peak in (("peak host memory", "peak_mib"), ("peak device memory", "device_mib")):
        peaks = [getattr(trial, peak) for trial in rounds.trials]
        if all(peaks):
            before, after = ([mib[side] for mib in peaks] for side in SIDES)
            cost, counts = bootstrap.paired_cost(before, after), (len(before), len(after))
            old, new = np.median(before), np.median(after)
            rows.append(Row(work, name, "MiB", "less", old, new, cost, allowed, counts))
    return rows


def measure(sides: Sides, allowed: float, most: int, what: str, seed: int = 0) -> Rounds:
    """Run pairs of processes until the interval is narrow enough, or for `most` rounds.

    It is narrow enough when it extends at most REACH of the allowed loss to either side: a loss of twice the allowed
    one is then found, however noisy the machine is. The checks in between look at the interval's width and not at its
    position, so they do not favor an alarm.
    """
    rounds, shuffle = Rounds(), random.Random(seed)
    with progress(what, most // TRIAL_ROUNDS) as advance:
        while len(rounds) + TRIAL_ROUNDS <= most:
            rounds.trials.append(sides.trial(shuffle))
            advance()
            if len(rounds) >= FEWEST and reach(rounds.cost) <= REACH * np.log1p(allowed):
                break
    return rounds


def reach(cost: Cost) -> float:
    """Return half the interval's width, in logarithms."""
    return float(np.log(cost.high / cost.low)) / 2


def job(work: str, place: Place) -> Job | StepJob:
    """Return the job of a loader measurement from `twoview list suites`, or of the training step of a recipe."""
    works = {one.name: one for one in TABLE if isinstance(one, LoaderWork)}
    if work in works:
        return _loading(works[work], place)
    return stepping(recipe.load(work))


def _loading(work: LoaderWork, place: Place) -> Job:
    """Return the job of a loader measurement. Its beton file is made if it does not exist."""
    from twoview.bench.data import betons
    from twoview.loaders import datasets

    file = betons.dataset_beton(datasets.dataset(work.dataset), "train", place.betons, place.root)
    images = BATCHES * work.batch
    return job_for(file.path.resolve(), work.views, work.size, cpu_count(), len(file), images, work.batch)


def stepping(one: recipe.Recipe[Any]) -> StepJob:
    """Return the job of a recipe's training step, one step per pass.

    Only the keys that the recipe gives are passed on, because old code may not know every key of the new code.
    """
    device = experiment.best_device()
    given = one.model_dump(mode="json", exclude_unset=True, exclude={"expected", "budget", "search"})
    given |= {"compile": one.compile, "precision": experiment.precision_for(one, device)}
    return StepJob(images=one.batch, threads=cpu_count(), recipe=given, device=device.type, seconds=0.0)


@contextmanager
def tree(name: str) -> Iterator[Path]:
    """Yield a folder as it is, or a temporary folder with a commit of the current folder's repository."""
    if Path(name).is_dir():
        yield Path(name)
        return
    archive = subprocess.run(["git", "archive", name], capture_output=True)
    if archive.returncode:
        raise ValueError(f"{name} is neither a folder nor a commit: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as content:
            content.extractall(folder, filter="data")
        yield Path(folder)
