"""Run a suite: a list of steps, each of which makes one evidence record. A finished step is not repeated.

A step is finished when its record exists, and an interrupted training run is resumed from its last checkpoint. So a
suite that is killed and started again by the same command loses no finished record, and at most the epoch that was
running.
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
from twoview.bench.data import betons, own
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
    """The measurements of a suite.

    loaders: measurements of the loader, and of converting images to beton files.
    recipes: recipes to train and evaluate. seeds: number of seeds that each recipe is trained with.
    theory: experiments, which are files of `bench/theory` with a function run() -> list[Claim].
    """

    loaders: tuple[LoaderWork | ConvertWork, ...] = ()
    recipes: tuple[str, ...] = ()
    seeds: int = 1
    theory: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step of a suite. run() returns the record called `name`.

    recipe: an existing record must have its settings, except those that the recipe searches over; None if any record
    will do.
    checkpoint: the checkpoint that run() leaves, if any.
    """

    name: str
    run: Callable[[], evidence.AnyRecord]
    recipe: Recipe[Any] | None = None
    checkpoint: Path | None = None


# For the suites `imbalance` and `imbalance-tiny` (Assran et al. 2023), which compare batches of a few classes with
# batches of all classes: the recipes on a long-tailed dataset, and those with other priors of PMSN.
TAILS = ("msn-lt", "pmsn-lt")
PRIORS = ("pmsn-lt-uniform", "pmsn-lt-classes", "pmsn-uniform-k100")
# Changes to the recipe gpu-cifar10-simclr, one at a time, and then those that improved it together. rank-cifar10 is
# that recipe, made small enough for two CPU cores.
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
# Changes to the recipe quick-fashion-mnist, one at a time, each with about the same training time.
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
    # The shorter training run comes first, so that there is a result soon.
    "quick": Suite(
        (targets.QUICK_SIMCLR, targets.QUICK_FASHION),
        ("quick-fashion-mnist-supervised", "quick-fashion-mnist"),
    ),
    "quick-cifar10": Suite(
        (targets.QUICK_SIMCLR, targets.QUICK_CIFAR),
        ("quick-cifar10-supervised", "quick-cifar10"),
    ),
    # Each method for a minute or two on two cores. MAE and data2vec need a ViT, the others have the same small ResNet.
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
            "cifar10-mae",
            "cifar10-data2vec",
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
    """Return the suite called `name`.

    Raises ValueError, with the known names (most similar first), if there is none.
    """
    return look_up("suite", name, SUITES)


def run(work: Suite, folder: Path, place: Place, seeds: int) -> None:
    """Run the steps of a suite that have no record in `folder` yet, with `seeds` seeds per recipe (see `run_steps`)."""
    run_steps(steps(work, place, seeds), folder, place)


def run_steps(steps: Iterable[Step], folder: Path, place: Place) -> None:
    """Run the steps that have no record in `folder` yet, and write their records there.

    Raises ValueError if an existing record has other settings than its step, and OSError if another suite is writing to
    the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "the folder"):
        todo = list(steps)
        for number, step in enumerate(todo, 1):
            _run_step(step, folder, place, f"[{number}/{len(todo)}] {step.name}")


def _run_step(step: Step, folder: Path, place: Place, what: str) -> None:
    """Run a step unless its record exists. what: the name of the step in messages."""
    path = evidence.path_of(folder, step.name)
    if path.exists():
        _same_recipe(path, step)
        console.print(f"{what}: already finished", markup=False)
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
    """Yield the steps of a suite: the training runs, then the experiments on theory, then the loader measurements."""
    yield from trainings([recipe.load(name) for name in work.recipes], place, seeds)
    for experiment_name in work.theory:
        yield Step(f"theory-{experiment_name}", partial(measure_claims, experiment_name))
    for loader in work.loaders:
        yield Step(loader.name, partial(_measure_loader, loader, place))


def trainings(recipes: Sequence[Recipe[Any]], place: Place, seeds: int, trials: int = 0) -> Iterator[Step]:
    """Yield the steps that evaluate the trained encoders, for each seed, and once each the baselines to compare with.

    The baselines are the untrained encoder and the pixels themselves.
    trials: number of trials by which each recipe with a table [search.ranges] is tuned first; with 0 it is not tuned.
    """
    planned: set[str] = set()
    for seed in range(seeds):
        for one in (each.model_copy(update={"seed": seed}) for each in recipes):
            for step in (_trained(one, place, trials), _untrained(one, place), _pixels(one, place)):
                if step.name not in planned:
                    planned.add(step.name)
                    yield step


def _trained(one: Recipe[Any], place: Place, trials: int) -> Step:
    """Return the step that trains a recipe and evaluates its encoder."""

    def run() -> evidence.Run:
        _train_in_own_process(_tuned(one, place, trials), place)
        return judging.judge(place.checkpoint(one), place)

    return Step(experiment.run_name(one), run, one, place.checkpoint(one))


def _tuned(one: Recipe[Any], place: Place, trials: int) -> Recipe[Any]:
    """Return the recipe with the best values of a search over `trials` trials.

    All seeds share the search of seed 0. Raises ValueError if no trial could be trained to the end.
    """
    if not (trials and one.search.ranges):
        return one
    from twoview.bench.training import search  # imported here because it needs optuna, which may not be installed

    first = own.read(one.model_copy(update={"seed": 0}), place.betons)
    folder = place.checkpoints.parent / "search" / one.name
    study = search.open_study(first, folder)
    search.run(first, study, folder, trials, place)
    best = search.outcome(study)["best"]
    if best is None:
        raise ValueError(f"{one.name}: none of the {trials} trials of its search could be trained to the end")
    return recipe.with_values(one, best["values"])


def _train_in_own_process(one: Recipe[Any], place: Place) -> None:
    """Train in a new process, so that the measured peak memory belongs to this training run alone."""
    # Some of these imports use the GPU's driver, which then does not work in a process that is forked afterwards.
    preload = () if torch.cuda.is_available() else ("twoview.bench.training.train", "timm", "torch._dynamo")
    processes.run(_train, (one.model_dump(mode="json"), place), preload)


def _train(job: tuple[dict[str, Any], Place]) -> None:
    """Train the recipe of a job (recipe as a dictionary, place), or resume its checkpoint."""
    values, place = job
    training.train(recipe.parse(values, values["name"]), place, resume=True)


def _untrained(one: Recipe[Any], place: Place) -> Step:
    """Return the step that evaluates the recipe's untrained encoder."""
    return Step(judging.baseline_name("untrained", one), lambda: judging.judge_untrained(one, place))


def _pixels(one: Recipe[Any], place: Place) -> Step:
    """Return the step that evaluates the pixels without an encoder."""
    return Step(judging.baseline_name("pixels", one), lambda: judging.judge_pixels(one, place))


def _measure_loader(work: LoaderWork | ConvertWork, place: Place) -> evidence.LoaderRates | evidence.ConvertRates:
    """Measure loading, or converting, by twoview and its peers in turn, and return the record."""
    threads, peers, rounds, name = cpu_count(), work.peers, work.rounds, work.name
    if isinstance(work, ConvertWork):
        samples = datasets.dataset(work.dataset).find(place.root, "train")
        return rates.measure_conversion(samples, work.dataset, work.images, threads, peers, rounds, name)
    file = betons.dataset_beton(datasets.dataset(work.dataset), "train", place.betons, place.root)
    job = rates.job_for(file.path, work.views, work.size, threads, len(file), work.images, work.batch)
    return rates.measure(job, peers, rounds, name, work.empty_cache, tolerance=work.tolerance)


def measure_claims(name: str, **settings: Any) -> evidence.Theory:
    """Run an experiment of `bench/theory` and return its record. settings: arguments of the experiment's `run`."""
    begun = time.perf_counter()
    claims: list[Claim] = importlib.import_module(f"twoview.bench.theory.{name}").run(**settings)
    seconds = time.perf_counter() - begun
    return evidence.Theory(name=f"theory-{name}", claims=[*map(evidence.Claimed.of, claims)], seconds=seconds)


def _same_recipe(path: Path, step: Step) -> None:
    """Raise ValueError, naming the differences, unless an existing record has the step's settings."""
    record = evidence.read(path)
    if not step.recipe or not isinstance(record, evidence.Run):
        return
    theirs = recipe.parse(record.recipe, str(path)).settings()
    # Settings that the recipe searches over are taken from the record.
    found = {key: value for key, value in recipe.flat(theirs).items() if key in step.recipe.search.ranges}
    mine = recipe.with_values(step.recipe, found).settings()
    check_same(mine, theirs, str(path), "use another --out")
