"""A suite: a list of steps, each of which leaves one evidence record. A finished step is never repeated.

A step is finished when its record is there; training inside a step goes on from its last checkpoint. So a suite that is
killed, and run again with the same words, loses no finished record and at most the epoch that was running.
"""

import importlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from twoview.bench import evidence
from twoview.bench.config import assran2023, experiment, recipe
from twoview.bench.config.differences import check_same
from twoview.bench.config.experiment import Place
from twoview.bench.config.recipe import Recipe
from twoview.bench.data import betons
from twoview.bench.dataloader import rates, targets
from twoview.bench.dataloader.targets import ConvertWork, LoaderWork
from twoview.bench.evaluation import judging, reconstructions
from twoview.bench.evidence.claims import Claim
from twoview.bench.runtime import processes
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.runtime.locks import alone
from twoview.bench.runtime.progress import console
from twoview.bench.training import train as training
from twoview.loaders import datasets
from twoview.loaders.names import look_up


@dataclass(frozen=True)
class Suite:
    """loaders: what to measure of the loader. recipes: what to train and judge, for each of so many seeds.

    theory: experiments, which are files of `bench/theory` with a function run() -> list[Claim].
    """

    loaders: tuple[LoaderWork | ConvertWork, ...] = ()
    recipes: tuple[str, ...] = ()
    seeds: int = 1
    theory: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """run() gives the record called `name`. recipe: whose settings a record that is there must have, but for those that
    it searches; None: any.

    checkpoint: that run() leaves, if it does.
    """

    name: str
    run: Callable[[], evidence.AnyRecord]
    recipe: Recipe[Any] | None = None
    checkpoint: Path | None = None


# Few classes a batch beside all of them, for each of the paper's methods; the prior of PMSN on a long tail and without.
TAILS = ("msn-lt", "pmsn-lt")
PRIORS = ("pmsn-lt-uniform", "pmsn-lt-classes", "pmsn-uniform-k100")
# What could be changed of gpu-cifar10-simclr, one thing at a time, then what gained, together: rank-cifar10 is that
# recipe for two cores.
CHANGES = (
    "crops",
    "progressive",
    "local",
    "temperature-0.2",
    "temperature-0.1",
    "spectral",
    "norm-hidden",
    "norm-all",
    "nesterov",
    "no-warmup",
    "lr-0.06",
    "lr-0.12",
    "lr-0.48",
    "kept",
    "kept-crops",
    "kept-progressive",
    "long",
    "long-kept",
)
# What could be changed of quick-fashion-mnist, one thing at a time, in about the same seconds of training.
FASHION_CHANGES = (
    "views",
    "small",
    "narrow",
    "batch-256",
    "lr-0.2",
    "adamw",
    "temperature-0.5",
    "few-images",
    "compile",
)
SUITES = {
    "loader": Suite(targets.TABLE, ()),
    # The shorter training first, so that a row is there soon.
    "quick": Suite(
        (targets.QUICK_SIMCLR, targets.QUICK_FASHION),
        ("quick-fashion-mnist-supervised", "quick-fashion-mnist"),
    ),
    "quick-cifar10": Suite(
        (targets.QUICK_SIMCLR, targets.QUICK_CIFAR),
        ("quick-cifar10-supervised", "quick-cifar10"),
    ),
    # Each method on the same small ResNet; the masked-image methods take none.
    "methods": Suite(
        (),
        (
            "cifar10-simclr",
            "cifar10-kernel-infonce",
            "cifar10-balanced",
            "cifar10-moco",
            "cifar10-byol",
            "cifar10-barlow",
            "cifar10-vicreg",
            "cifar10-supcon",
            "cifar10-supervised",
            "cifar10-msn",
            "cifar10-pmsn",
        ),
    ),
    "imbalance": Suite(
        (),
        (
            *(f"assran2023-cifar100-{method}-k{k}" for method in assran2023.METHODS for k in (2, 5, 10, 100)),
            *(f"assran2023-cifar100-{name}" for name in (*TAILS, *PRIORS)),
        ),
        seeds=3,
    ),
    "imbalance-tiny": Suite(
        (),
        (
            *(f"imbalance-{method}-k{k}" for method in assran2023.METHODS for k in (2, 10)),
            *(f"imbalance-{name}" for name in TAILS),
        ),
        seeds=2,
    ),
    "rank-cifar10": Suite((), ("rank-cifar10", *(f"rank-cifar10-{change}" for change in CHANGES)), seeds=3),
    "rank-fashion-mnist": Suite(
        (),
        ("rank-fashion-mnist", *(f"rank-fashion-mnist-{change}" for change in FASHION_CHANGES)),
        seeds=3,
    ),
    # The last one needs CIFAR-10.
    "theory": Suite(theory=("sparse_coding", "spectral", "clusters", "uniform_prior", "images")),
}


def suite(name: str) -> Suite:
    """The suite of that name. ValueError with the known names, the nearest first, if there is none."""
    return look_up("suite", name, SUITES)


def run(work: Suite, folder: Path, place: Place, seeds: int) -> None:
    """The steps of a suite, as `run_steps` runs them."""
    run_steps(steps(work, place, seeds), folder, place)


def run_steps(steps: Iterable[Step], folder: Path, place: Place) -> None:
    """Runs the steps that have no record in `folder` yet.

    ValueError if a record there is of other settings than its step's; OSError if another suite writes to the folder
    now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "the folder"):
        todo = list(steps)
        for number, step in enumerate(todo, 1):
            _run_step(step, folder, place, f"[{number}/{len(todo)}] {step.name}")


def _run_step(step: Step, folder: Path, place: Place, what: str) -> None:
    path = evidence.path_of(folder, step.name)
    if path.exists():
        _same_recipe(path, step)
        console.print(f"{what}: finished before, kept", markup=False)
        return
    console.print(what, markup=False)
    record = step.run()
    if step.checkpoint:
        reconstructions.write(step.checkpoint, place, folder)
    evidence.write(record, folder)
    if isinstance(record, evidence.Run):
        accuracy = record.accuracy
        console.print(
            f"{step.name}: kNN {accuracy.knn_top1:.2f} %, linear probe {accuracy.linear_top1:.2f} %", markup=False
        )


def steps(work: Suite, place: Place, seeds: int) -> Iterator[Step]:
    """The trainings, then theory and loaders."""
    yield from trainings([recipe.load(name) for name in work.recipes], place, seeds)
    for experiment_name in work.theory:
        yield Step(f"theory-{experiment_name}", partial(measure_claims, experiment_name))
    for loader in work.loaders:
        yield Step(loader.name, partial(_measure_loader, loader, place))


def trainings(recipes: Sequence[Recipe[Any]], place: Place, seeds: int, trials: int = 0) -> Iterator[Step]:
    """For each seed the trained encoders and, once each, what they are held against.

    trials: how many groups of values each recipe with a table [search.ranges] is tuned by; 0: its values are kept.
    """
    planned: set[str] = set()
    for seed in range(seeds):
        for one in (each.model_copy(update={"seed": seed}) for each in recipes):
            for step in (_trained(one, place, trials), _untrained(one, place), _pixels(one, place)):
                if step.name not in planned:
                    planned.add(step.name)
                    yield step


def _trained(one: Recipe[Any], place: Place, trials: int) -> Step:
    def run() -> evidence.Run:
        _train_in_own_process(_tuned(one, place, trials), place)
        return judging.judge(place.checkpoint(one), place)

    return Step(experiment.run_name(one), run, one, place.checkpoint(one))


def _tuned(one: Recipe[Any], place: Place, trials: int) -> Recipe[Any]:
    """With the best of so many groups of values; all seeds share the search, which is that of seed 0."""
    if not (trials and one.search.ranges):
        return one
    from twoview.bench.training import search  # here, for it needs optuna, which not every machine of a suite has

    first, folder = one.model_copy(update={"seed": 0}), place.checkpoints.parent / "search" / one.name
    study = search.open_study(first, folder)
    search.run(first, study, folder, trials, place)
    best = search.outcome(study)["best"]
    if best is None:
        raise ValueError(f"{one.name}: none of {trials} groups of values could be trained to the end")
    return recipe.with_values(one, best["values"])


def _train_in_own_process(one: Recipe[Any], place: Place) -> None:
    """So that the peak of memory that the training measures is its own."""
    # A GPU's driver that was asked anything, as some of these imports do, is of no use to a process forked afterwards.
    preload = () if torch.cuda.is_available() else ("twoview.bench.training.train", "timm", "torch._dynamo")
    processes.run(_train, (one.model_dump(mode="json"), place), preload)


def _train(job: tuple[dict[str, Any], Place]) -> None:
    values, place = job
    training.train(recipe.parse(values, values["name"]), place, resume=True)


def _untrained(one: Recipe[Any], place: Place) -> Step:
    return Step(judging.baseline_name("untrained", one), lambda: judging.judge_untrained(one, place))


def _pixels(one: Recipe[Any], place: Place) -> Step:
    return Step(judging.baseline_name("pixels", one), lambda: judging.judge_pixels(one, place))


def _measure_loader(work: LoaderWork | ConvertWork, place: Place) -> evidence.LoaderRates | evidence.ConvertRates:
    threads, peers, rounds, name = cpu_count(), work.peers, work.rounds, work.name
    if isinstance(work, ConvertWork):
        samples = datasets.dataset(work.dataset).find(place.root, "train")
        return rates.measure_conversion(samples, work.dataset, work.images, threads, peers, rounds, name)
    file = betons.dataset_beton(work.dataset, "train", place.betons, place.root)
    job = rates.job_for(file.path, work.views, work.size, threads, len(file), work.images, work.batch)
    return rates.measure(job, peers, rounds, name, work.empty_cache, tolerance=work.tolerance)


def measure_claims(name: str, **settings: Any) -> evidence.Theory:
    """The record of an experiment of `bench/theory`. settings: arguments of its `run`."""
    begun = time.perf_counter()
    claims: list[Claim] = importlib.import_module(f"twoview.bench.theory.{name}").run(**settings)
    seconds = time.perf_counter() - begun
    return evidence.Theory(name=f"theory-{name}", claims=[*map(evidence.Claimed.of, claims)], seconds=seconds)


def _same_recipe(path: Path, step: Step) -> None:
    record = evidence.read(path)
    if not step.recipe or not isinstance(record, evidence.Run):
        return
    theirs = recipe.parse(record.recipe, str(path)).settings()
    found = {key: value for key, value in recipe.flat(theirs).items() if key in step.recipe.search.ranges}
    mine = recipe.with_values(step.recipe, found).settings()
    check_same(mine, theirs, str(path), "name another --out")
