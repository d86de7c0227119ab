"""Hyper-parameter search: each trial trains with a random group of values and is judged on held-out training images.

The study is a file that several processes and machines can append to, also over NFS. The group of trial n is a pure
function of the recipe's seed and n, so many processes together draw the same groups as one. A trial whose process is
killed is not repeated, and counts as failed once the study is opened again. Nothing else is lost: a second run
continues the search where the first stopped.
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

from twoview.bench.config import experiment, starts
from twoview.bench.config.differences import check_same
from twoview.bench.config.experiment import Place
from twoview.bench.config.recipe import ABOUT, Recipe, check_schedule, dataset_of, parse, with_values
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

RUNNING = "running"  # subfolder of the study with the locks that the processes of running trials hold
KILLED = "its process was ended"  # the reason that is given for a failed trial without an error of its own
# As in Tan et al.'s official search: ASHA with reduction factor 2 and a grace period of a tenth of the epochs.
HALVING = 2
GRACE = 10
LOCK_SECONDS = 30  # after which a lock of the study's file counts as abandoned; writing a line takes far less


def open_study(recipe: Recipe[Any], folder: Path) -> optuna.Study:
    """Open the study of a recipe in `folder`, or create it.

    recipe: with what is in its own data, see `own.read`, so that trials of other images are not mixed with these.
    Raises ValueError if the recipe has no settings to search, if its own data have not been read, or if the study in
    the folder belongs to another recipe.
    """
    if not recipe.search.ranges:
        raise ValueError(
            f'{recipe.name} has no [search.ranges]: list the settings to search, as in "optim.lr" = [0.01, 1, "log"]'
        )
    dataset_of(recipe)  # raises if own data have not been read
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = str(folder / "study.journal")
    # The lock is a file created with O_EXCL, which NFS supports since version 3. A lock that a killed process left
    # behind is broken after LOCK_SECONDS.
    storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal, LOCK_SECONDS)))
    grace = max(1, _epochs(recipe) // GRACE)
    study = optuna.create_study(
        storage=storage,
        study_name=recipe.name,
        direction="maximize",
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=grace, reduction_factor=HALVING),
        load_if_exists=True,
    )
    mine = {**starts.pinned(recipe).settings(), "search": recipe.search.model_dump(mode="json")}
    theirs = study.user_attrs.get("recipe")
    if theirs is None:
        study.set_user_attr("recipe", mine)
    else:
        check_same(mine, _completed(theirs, recipe, folder), str(folder), "use another --out")
    _fail_the_killed(study, folder)
    return study


def _completed(stored: dict[str, Any], recipe: Recipe[Any], folder: Path) -> dict[str, Any]:
    """Return the settings that a study stores, with the defaults of the keys that are newer than the study.

    recipe: gives the keys that a study does not store. Raises ValueError if a stored setting is no longer valid.
    """
    # `settings` leaves out where a file with a hash is, and a dataset of own images is known only with its contents.
    backbone = {"checkpoint": stored["backbone"].get("sha256", ""), **stored["backbone"]}
    values = recipe.model_dump(mode="json", include=ABOUT) | stored
    theirs = parse(values | {"backbone": backbone, "dataset": recipe.dataset}, str(folder))
    search = theirs.search.model_dump(mode="json")
    return {**theirs.settings(), "dataset": stored["dataset"], "search": search}


def _fail_the_killed(study: optuna.Study, folder: Path) -> None:
    """Mark running trials as failed if no process holds their lock any more.

    On a file system without locks this cannot be known, and nothing is done.
    """
    if not can_lock(folder):
        return
    with _in_turn(folder):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            with contextlib.suppress(BlockingIOError), _held(folder, trial.number):
                study.tell(trial.number, state=TrialState.FAIL)


def _held(folder: Path, number: int) -> AbstractContextManager[None]:
    """Return the lock that the process of a running trial holds."""
    return alone(folder / RUNNING / f"trial-{number}", "the trial")


@contextmanager
def _in_turn(folder: Path) -> Iterator[None]:
    """Let one process at a time begin a trial or check the running ones; the others wait.

    Otherwise a trial that has begun, and whose lock is not held yet, could look like a trial whose process was killed.
    """
    with ExitStack() as stack:
        while True:
            with contextlib.suppress(BlockingIOError):
                stack.enter_context(alone(folder / RUNNING / "next", "the next trial"))
                break
            time.sleep(0.05)
        yield


def _done(study: optuna.Study) -> int:
    """Return how many trials ended by themselves: completed, pruned or failed with an error, but not killed."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return sum(trial.state != TrialState.FAIL or "error" in trial.user_attrs for trial in ended)


def run(recipe: Recipe[Any], study: optuna.Study, folder: Path, trials: int, place: Place) -> None:
    """Run trials until the study in `folder` has `trials` of them, including trials of other processes.

    recipe: the one with which the study was opened.
    If several processes search together, each one except the first may add one trial too many. A group of values with
    which training breaks down is a failed trial, not an error. Raises ValueError, naming the key, if a range contains a
    value that the recipe does not accept.
    """
    check_schedule(with_values(recipe, {"epochs": _epochs(recipe)}), f"{recipe.name}: search.epochs")
    # Try the ends of each range, or all of its choices, before any training begins.
    for key, values in recipe.search.ranges.items():
        for value in values[:2] if scale(values) else values:
            with_values(recipe, {key: value})
    device = experiment.best_device()
    kind = experiment.precision_for(recipe, device)
    betons.dataset_beton(
        dataset_of(recipe), "train", place.betons, place.root
    )  # an error in the data ends the search here, instead of making every trial fail
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
            except (FloatingPointError, ValueError) as error:  # a value that is not finite, or too little memory
                console.print(f"{what}: failed: {error}", markup=False)
                trial.set_user_attr("error", str(error))
                study.tell(trial, state=TrialState.FAIL)


def _report(trial: Trial, epoch: int, top1: float) -> None:
    """Report the accuracy after an epoch to the study. Raises TrialPruned if the trial should end early."""
    trial.report(top1, epoch)
    if trial.should_prune():
        raise optuna.TrialPruned


def seed_of(recipe: Recipe[Any], number: int) -> int:
    """Return the seed, below 2 ** 32, from which the group of values of a trial is drawn."""
    return zlib.crc32(f"{recipe.seed} {number}".encode())


def draw(trial: Trial, search: Search) -> dict[str, Any]:
    """Draw a value for each key of the search ranges. A range between two whole numbers gives whole numbers."""
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
    """Train on all training images except the held-out ones, and return the final kNN top-1 on those, in percent.

    The recipe says how many images are held out; if it does not, a tenth of the training images are. The test images
    are not used.
    on_epoch(epoch, top-1): called after each epoch. An exception that it raises ends training.
    """
    file = betons.dataset_beton(dataset_of(recipe), "train", place.betons, place.root)
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
            """Return the current kNN top-1 on the held-out images.

            Raises FloatingPointError if a feature is not finite.
            """
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
    """Return the study as a dictionary for JSON: the number of trials in each state, every trial, and the best one."""
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
    """Return the number of epochs of a trial."""
    return recipe.search.epochs or recipe.epochs
