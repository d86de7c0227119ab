"""A suite: a list of steps, each of which leaves one evidence record. A finished step is never repeated.

A step is finished when its record is there; training inside a step goes on from its last checkpoint. So a suite that is
killed, and run again with the same words, loses no finished record and at most the epoch that was running.
"""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import betons, evidence, experiment, loader_rates, recipe
from bench.environment import cpu_count
from bench.experiment import Place
from bench.progress import console
from loaders.names import look_up


@dataclass(frozen=True)
class LoaderWork:
    """A loader measurement: `images` training images of a dataset, `views` at `size` pixels, beside the peers."""

    dataset: str
    views: str
    size: int
    images: int
    peers: tuple[str, ...] = loader_rates.PEERS
    rounds: int = 5

    @property
    def name(self) -> str:
        return f"loader-{self.dataset}-{self.views}-{self.size}"


@dataclass(frozen=True)
class Suite:
    """loaders: what to measure of the loader. recipes: what to train and judge, for each seed."""

    loaders: tuple[LoaderWork, ...]
    recipes: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """run() gives the record called `name`. recipe: what a record that is there already must hold; None: anything."""

    name: str
    run: Callable[[], evidence.Run | evidence.LoaderRates]
    recipe: dict[str, Any] | None = None


PHOTOGRAPHS = LoaderWork("photographs", "simclr-imagenet", 224, images=256)
SUITES = {
    "quick": Suite(
        (PHOTOGRAPHS, LoaderWork("fashion-mnist", "simclr-cifar", 32, images=2048)),
        ("quick-fashion-mnist", "quick-fashion-mnist-supervised"),
    ),
    "quick-cifar10": Suite(
        (PHOTOGRAPHS, LoaderWork("cifar10", "simclr-cifar", 32, images=2048)),
        ("quick-cifar10", "quick-cifar10-supervised"),
    ),
}


def suite(name: str) -> Suite:
    """The suite of that name. ValueError with the known names, the nearest first, if there is none."""
    return look_up("suite", name, SUITES)


def run(work: Suite, folder: Path, place: Place, seeds: int) -> None:
    """Runs the steps that have no record in `folder` yet.

    ValueError if a record there is of other settings than this suite's: another --out is needed then.
    """
    todo = list(steps(work, place, seeds))
    for number, step in enumerate(todo, 1):
        path = evidence.path_of(folder, step.name)
        if path.exists():
            _same_recipe(path, step)
            console.print(f"[{number}/{len(todo)}] {step.name}: finished before, kept", markup=False)
            continue
        console.print(f"[{number}/{len(todo)}] {step.name}", markup=False)
        evidence.write(step.run(), folder)


def steps(work: Suite, place: Place, seeds: int) -> Iterator[Step]:
    """Loaders first; then for each seed the trained encoders and, once each, what they are held against."""
    for loader in work.loaders:
        yield Step(loader.name, lambda loader=loader: _measure_loader(loader, place))  # type: ignore[misc]
    planned: set[str] = set()
    for seed in range(seeds):
        for name in work.recipes:
            one = recipe.load(name).model_copy(update={"seed": seed})
            for step in (_trained(name, one, place), _untrained(one, place), _pixels(one, place)):
                if step.name not in planned:
                    planned.add(step.name)
                    yield step


def _trained(name: str, one: recipe.Recipe[Any], place: Place) -> Step:
    def run() -> evidence.Run:
        _train_apart(name, one.seed, place)
        return experiment.judge(place.checkpoint(one), place)

    return Step(experiment.run_name(one), run, one.model_dump(mode="json"))


def _train_apart(name: str, seed: int, place: Place) -> None:
    """`twoview train` in a process of its own, so that the peak of memory that it measures is its own.

    It says itself what went wrong; SystemExit with its code then.
    """
    command = [sys.executable, "-P", "-m", "bench", "train", name, "--seed", str(seed), "--resume"]
    command += ["--out", str(place.checkpoints.parent), "--betons", str(place.betons)]
    if place.root:
        command += ["--data-root", str(place.root)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent).returncode
    if code:
        sys.exit(code)


def _die_with_parent() -> None:
    """prctl(PR_SET_PDEATHSIG): a suite that is killed leaves no training behind that the next one would meet."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _untrained(one: recipe.Recipe[Any], place: Place) -> Step:
    return Step(experiment.baseline_name("untrained", one), lambda: experiment.judge_untrained(one, place))


def _pixels(one: recipe.Recipe[Any], place: Place) -> Step:
    return Step(experiment.baseline_name("pixels", one), lambda: experiment.judge_pixels(one, place))


def _measure_loader(work: LoaderWork, place: Place) -> evidence.LoaderRates:
    file = betons.of_dataset(work.dataset, "train", place.betons, place.root)
    job = loader_rates.job_for(file.path, work.views, work.size, cpu_count(), work.images, len(file))
    return loader_rates.measure(job, work.peers, work.rounds, work.name)


def _same_recipe(path: Path, step: Step) -> None:
    record = evidence.read(path)
    if step.recipe and isinstance(record, evidence.Run) and record.recipe != step.recipe:
        changed = sorted(key for key in step.recipe if record.recipe.get(key) != step.recipe[key])
        raise ValueError(f"{path} was measured with another {' and '.join(changed)}: name another --out")
