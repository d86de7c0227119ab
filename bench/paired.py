"""Old and new code measured in turn in one session, so that a noisy machine widens the interval and fails no build.

Each side has a process of its own that runs the code of its folder and stays: a turn costs what is measured and nothing
else. A round is a turn of either side, in random order. Before every turn the machine is scored by a fixed piece of
work, `bench.calibration`: where that surely differs between the sides, it is the machine that does, and the interval is
made that much longer at both ends. Rounds go on until the interval tells the allowed
loss from twice as much, or there are enough of them.
"""

import io
import random
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from bench import bootstrap, experiment, recipe
from bench.bootstrap import Cost
from bench.calibration import Calibration
from bench.compare import Comparison, Row
from bench.cores import cpu_count
from bench.experiment import Place
from bench.loader_rates import OURS, Absent, Process, job_for
from bench.loader_works import TABLE, LoaderWork
from bench.peers.job import Job, StepJob
from bench.progress import progress

Name = Literal["old", "new"]
SIDES: tuple[Name, Name] = ("old", "new")
TURN = 0.05  # seconds at least: passes are repeated until they are over
WARMUP = 3  # rounds that count for nothing
FEWEST, STEP = 20, 10  # rounds before the interval is looked at, and between two looks
CALIBRATION_MIB = 3  # about 2 ms a core: a small part of a turn
BATCHES = 2  # of the loader, a pass


@dataclass
class Rounds:
    """Seconds an image and seconds of the calibration by side, one number a round; peaks of memory by side, in MiB."""

    seconds: dict[Name, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    calibration: dict[Name, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    peak_mib: dict[Name, float] = field(default_factory=dict)
    device_mib: dict[Name, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.seconds["new"])

    @property
    def machine(self) -> Cost:
        """The same work before new's turns over that before old's."""
        return bootstrap.of_pairs(self.calibration["old"], self.calibration["new"])

    @property
    def cost(self) -> Cost:
        """New over old in time, at least two rounds."""
        return bootstrap.of_pairs(self.seconds["old"], self.seconds["new"]).widened(self.machine)

    @property
    def note(self) -> str:
        """How much the interval can be believed, in a sentence."""
        scores = [*self.calibration["old"], *self.calibration["new"]]
        lower, middle, upper = np.quantile(scores, [0.25, 0.5, 0.75])
        return (
            f"{len(self)} rounds; the machine's own work took {1000 * middle:.2f} ms, quartiles"
            f" {1000 * lower:.2f} to {1000 * upper:.2f}, and before new's turns {self.machine.ratio:.3f}"
            f" ({self.machine.low:.3f} to {self.machine.high:.3f}) of before old's"
        )


class Pair:
    """The processes of both sides, ready for their first turn. ValueError if a side cannot do the work."""

    def __init__(self, old: Path, new: Path, job: Job | StepJob) -> None:
        self.job, self.trees = job, {"old": old.resolve(), "new": new.resolve()}
        for tree in self.trees.values():
            if not (tree / "bench" / "peers" / "worker.py").is_file():
                raise ValueError(f"{tree} is no checkout of twoview: it has no bench/peers/worker.py")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.machine = stack.enter_context(Calibration(CALIBRATION_MIB))
            self.processes = {
                side: stack.enter_context(Process(OURS, self.job, tree=self.trees[side])) for side in SIDES
            }
            for side in SIDES:
                self._asked(side, "answer")
            for _ in range(WARMUP):
                for side in SIDES:
                    self._asked(side, "work_a_round")
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _asked(self, side: Name, what: Literal["answer", "work_a_round"]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self.processes[side], what)()
        except Absent as reason:
            raise ValueError(f"the {side} code in {self.trees[side]} cannot do the work: {reason}") from None
        return answer

    def round(self, rounds: Rounds, shuffle: random.Random) -> None:
        """A turn of either side, added to the rounds."""
        for side in shuffle.sample(SIDES, 2):
            rounds.calibration[side].append(self.machine.seconds())
            answer = self._asked(side, "work_a_round")
            rounds.seconds[side].append(1 / answer["images_per_s"])
            rounds.peak_mib[side] = answer["peak_mib"]
            if answer["device_mib"] is not None:
                rounds.device_mib[side] = answer["device_mib"]


def compare_code(old: str, new: str, work: str, place: Place, allowed: float, most: int, seed: int = 0) -> Comparison:
    """Both sides' code at the work of that name, each side a checkout's folder or a commit.

    The peaks of memory are shown beside the speed; a session has one a side, and one sample has no interval.
    ValueError where a side cannot do the work, or for fewer rounds than an interval takes.
    """
    if most < FEWEST:
        raise ValueError(f"--rounds must be at least {FEWEST}, not {most}")
    asked = job(work, place)
    with tree(old) as before, tree(new) as after, Pair(before, after, asked) as pair:
        rounds = measure(pair, allowed, most, f"{work}, {old} and {new} in turn", seed)
    return Comparison(_rows(work, rounds, allowed), notes=[rounds.note])


def _rows(work: str, rounds: Rounds, allowed: float) -> list[Row]:
    rates = {side: 1 / np.median(rounds.seconds[side]) for side in SIDES}
    count = len(rounds)
    rows = [Row(work, "rate", "images/s", "more", rates["old"], rates["new"], rounds.cost, allowed, (count, count))]
    for name, peaks in (("peak host memory", rounds.peak_mib), ("peak device memory", rounds.device_mib)):
        if peaks:
            rows.append(Row(work, name, "MiB", "less", peaks["old"], peaks["new"], None, allowed))
    return rows


def measure(pair: Pair, allowed: float, most: int, what: str, seed: int = 0) -> Rounds:
    """Rounds until the interval reaches no further than half the allowed loss to either side, `most` of them at most.

    Then a loss of twice what is allowed is found, whatever the noise was. The looks in between are at the interval's
    width and not at where it lies, so they do not favour an alarm.
    """
    rounds, shuffle = Rounds(), random.Random(seed)
    with progress(what, most) as advance:
        while len(rounds) < most:
            pair.round(rounds, shuffle)
            advance()
            if len(rounds) >= FEWEST and len(rounds) % STEP == 0 and reach(rounds.cost) <= np.log1p(allowed) / 2:
                break
    return rounds


def reach(cost: Cost) -> float:
    """Half the interval's width, in logarithms."""
    return float(np.log(cost.high / cost.low)) / 2


def job(work: str, place: Place) -> Job | StepJob:
    """The work of that name: the loader's, from `twoview list suites`, or the training step of a recipe."""
    works = {one.name: one for one in TABLE if isinstance(one, LoaderWork)}
    if work in works:
        return _loading(works[work], place)
    return stepping(recipe.load(work))


def _loading(work: LoaderWork, place: Place) -> Job:
    from bench import betons

    file = betons.of_dataset(work.dataset, "train", place.betons, place.root)
    images = BATCHES * work.batch
    one = job_for(file.path.resolve(), work.views, work.size, cpu_count(), len(file), images, work.batch)
    return one.model_copy(update={"seconds": TURN})


def stepping(one: recipe.Recipe[Any]) -> StepJob:
    """A recipe's step, one a pass. Only what it gives is handed on: old code need not know every key that new has."""
    device = experiment.best_device()
    given = one.model_dump(mode="json", exclude_unset=True, exclude={"expected", "budget", "search"})
    given |= {"compile": one.compile, "precision": experiment.precision_for(one, device)}
    return StepJob(images=one.batch, threads=cpu_count(), recipe=given, device=device.type, seconds=TURN)


@contextmanager
def tree(name: str) -> Iterator[Path]:
    """A folder as it is, or a commit of the repository around here, laid out in a folder of its own meanwhile."""
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
