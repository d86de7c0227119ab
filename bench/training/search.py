"""Hyper-parameter search: random groups of values, each judged on training images that it was not trained on.

The study is a file that processes and machines append to, over NFS too. Group n is a pure function of the recipe's seed
and n, so however many search together draw the same groups as one. A trial that is killed is drawn no more, and failed
once the study is opened again; nothing else is lost, and the search run again goes on.
"""

import contextlib
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import Trial, TrialState

from twoview.bench.config import experiment
from twoview.bench.config.differences import check_same
from twoview.bench.config.experiment import Place
from twoview.bench.config.recipe import Recipe, check_schedule, with_values
from twoview.bench.config.search_space import Search, scale
from twoview.bench.data import betons
from twoview.bench.evaluation.probing import in_turn
from twoview.bench.runtime.locks import alone, can_lock
from twoview.bench.runtime.progress import console, progress
from twoview.bench.training import out_of_memory
from twoview.loaders import presets
from twoview.loaders.samplers import subset
from twoview.methods.probes.features import extract
from twoview.methods.probes.knn import knn_top1

RUNNING = "running"  # folder of the study, with what the running trials' processes hold
KILLED = "its process was ended"  # why a trial failed that says nothing itself
HALVING = 2  # Tan et al.'s official search: ASHA with reduction 2 and a grace of a tenth of the epochs
GRACE = 10
LOCK_SECONDS = 30  # far longer than a line takes to write


def open_study(recipe: Recipe[Any], folder: Path) -> optuna.Study:
    """The study of a recipe in `folder`, made if it is not there.

    ValueError if the recipe names nothing to search, or the study there is of another recipe.
    """
    if not recipe.search.ranges:
        raise ValueError(
            f'{recipe.name} has no [search.ranges]: name what to search, such as "optim.lr" = [0.01, 1, "log"]'
        )
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = str(folder / "study.journal")
    # A lock file made with O_EXCL, as NFS can since version 3; what a killed process leaves is broken in time.
    storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal, LOCK_SECONDS)))
    grace = max(1, _epochs(recipe) // GRACE)
    study = optuna.create_study(
        storage=storage,
        study_name=recipe.name,
        direction="maximize",
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=grace, reduction_factor=HALVING),
        load_if_exists=True,
    )
    mine = {**recipe.settings(), "search": recipe.search.model_dump(mode="json")}
    theirs = study.user_attrs.get("recipe")
    if theirs is None:
        study.set_user_attr("recipe", mine)
    else:
        check_same(mine, theirs, str(folder), "name another --out")
    _fail_the_killed(study, folder)
    return study


def _fail_the_killed(study: optuna.Study, folder: Path) -> None:
    """Trials whose processes hold nothing any more have failed. Where files cannot be locked nobody can tell."""
    if not can_lock(folder):
        return
    with _in_turn(folder):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            with contextlib.suppress(BlockingIOError), _held(folder, trial.number):
                study.tell(trial.number, state=TrialState.FAIL)


def _held(folder: Path, number: int) -> AbstractContextManager[None]:
    """What the process of a running trial is in, and nobody else."""
    return alone(folder / RUNNING / f"trial-{number}", "the trial")


@contextmanager
def _in_turn(folder: Path) -> Iterator[None]:
    """One process at a time; the others wait, since a trial begins between two looks at those that run."""
    with ExitStack() as stack:
        while True:
            with contextlib.suppress(BlockingIOError):
                stack.enter_context(alone(folder / RUNNING / "next", "the next trial"))
                break
            time.sleep(0.05)
        yield


def _done(study: optuna.Study) -> int:
    """Trials that came to an end of their own."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return sum(trial.state != TrialState.FAIL or "error" in trial.user_attrs for trial in ended)


def run(recipe: Recipe[Any], study: optuna.Study, folder: Path, trials: int, place: Place) -> None:
    """Trains and judges groups until the study in `folder` has `trials`, those of other processes counted.

    Processes that search together may end with one trial too many each but the first. A group that
    training breaks down with is a failed trial, not an error. ValueError, naming the key, for a range with a value that
    the recipe refuses.
    """
    check_schedule(with_values(recipe, {"epochs": _epochs(recipe)}), f"{recipe.name}: search.epochs")
    for key, values in recipe.search.ranges.items():
        for value in values[:2] if scale(values) else values:
            with_values(recipe, {key: value})
    device = experiment.best_device()
    kind = experiment.precision_for(recipe, device)
    betons.dataset_beton(
        recipe.dataset, "train", place.betons, place.root
    )  # what is wrong with the data is no trial's fault
    while (done := _done(study)) < trials:
        with ExitStack() as stack:
            with _in_turn(folder):
                trial = study.ask()
                stack.enter_context(_held(folder, trial.number))
            study.sampler = optuna.samplers.RandomSampler(seed_of(recipe, trial.number))
            group = draw(trial, recipe.search)
            what = f"trial {trial.number}, {done} of {trials} done"
            console.print(f"{what}: {', '.join(f'{key} {value}' for key, value in group.items())}", markup=False)
            one = with_values(recipe, {**group, "epochs": _epochs(recipe), "precision": kind})
            try:
                with out_of_memory.explained(one, device, kind):
                    top1 = held_out_accuracy(one, place, what, partial(_report, trial))
                study.tell(trial, top1)
            except optuna.TrialPruned:
                study.tell(trial, state=TrialState.PRUNED)
            except (FloatingPointError, ValueError) as error:  # what is not finite, or too large for the memory
                console.print(f"{what}: failed: {error}", markup=False)
                trial.set_user_attr("error", str(error))
                study.tell(trial, state=TrialState.FAIL)


def _report(trial: Trial, epoch: int, top1: float) -> None:
    trial.report(top1, epoch)
    if trial.should_prune():
        raise optuna.TrialPruned


def seed_of(recipe: Recipe[Any], number: int) -> int:
    """The seed, below 2 ** 32, that the group of a trial is drawn by."""
    return zlib.crc32(f"{recipe.seed} {number}".encode())


def draw(trial: Trial, search: Search) -> dict[str, Any]:
    """A value for each key of the ranges; whole numbers between whole numbers."""
    group: dict[str, Any] = {}
    for key, values in search.ranges.items():
        kind = scale(values)
        if kind is None:
            group[key] = trial.suggest_categorical(key, values)
        elif isinstance(values[0], int) and isinstance(values[1], int):
            group[key] = trial.suggest_int(key, values[0], values[1], log=kind == "log")
        else:
            group[key] = trial.suggest_float(key, float(values[0]), float(values[1]), log=kind == "log")
    return group


def held_out_accuracy(recipe: Recipe[Any], place: Place, what: str, on_epoch: Callable[[int, float], None]) -> float:
    """Trains on the training images but those held out; kNN top-1 of those, in percent, after the last epoch.

    Held out are the recipe's own, or a tenth of the training images if it has none; the test images are not touched.
    on_epoch(epoch, top-1): called after each epoch; what it raises ends the training.
    """
    file = betons.dataset_beton(recipe.dataset, "train", place.betons, place.root)
    recipe = recipe.model_copy(update={"held_out": recipe.held_out or len(file) // 10})
    device = experiment.best_device()
    # Compiling takes about a minute, and there are many trials.
    trainer = experiment.trainer(recipe.model_copy(update={"compile": "off", "cuda_graph": False}), device)
    kept = experiment.chosen(file.labels, recipe.held_out, recipe.probe.train_images)
    rest = np.setdiff1d(np.arange(len(file)), experiment.chosen(file.labels, recipe.held_out, 0))
    if 0 < recipe.probe.test_images < len(rest):
        rest = rest[subset(file.labels[rest], recipe.probe.test_images, experiment.SUBSET_SEED)]
    (view,) = presets.preset("eval", recipe.size)
    steps, history = 0, [0.0]

    with (
        experiment.train_loader(recipe, file, trainer.method, device) as loader,
        in_turn(file, kept, view) as bank,
        in_turn(file, rest, view) as queries,
        progress(what, recipe.epochs * len(loader)) as advance,
        TemporaryDirectory(prefix="twoview-search-") as scratch,
    ):

        def judge() -> float:
            trainer.method.eval()
            features = [
                extract(trainer.method.encode, part, trainer.normalize, device, lambda: None)
                for part in (bank, queries)
            ]
            trainer.method.train()
            if not all(values.isfinite().all() for values, _ in features):
                raise FloatingPointError(f"the features are not finite after step {steps}")
            return knn_top1(*features[0], *features[1], k=recipe.probe.k, temperature=recipe.probe.temperature)

        def on_step() -> None:
            nonlocal steps
            steps += 1
            advance()
            if steps % len(loader) == 0:
                history.append(judge())
                on_epoch(steps // len(loader), history[-1])

        trainer.fit(loader, Path(scratch) / "trial.pt", recipe.model_dump(mode="json"), on_step)
    return history[-1]


def outcome(study: optuna.Study) -> dict[str, Any]:
    """The study as JSON has it: counts by state, every trial, the best one."""
    rows: list[dict[str, Any]] = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "top1": trial.value,
            "values": trial.params,
            "top1_by_epoch": [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)],
            "error": trial.user_attrs.get("error", KILLED if trial.state == TrialState.FAIL else None),
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    complete = [row for row in rows if row["state"] == "complete"]
    return {
        "name": study.study_name,
        "trials": {state.name.lower(): sum(row["state"] == state.name.lower() for row in rows) for state in TrialState},
        "best": max(complete, key=lambda row: row["top1"], default=None),
        "groups": rows,
    }


def _epochs(recipe: Recipe[Any]) -> int:
    return recipe.search.epochs or recipe.epochs
