"""Train a recipe, and measure the training run."""

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.markup import escape

from twoview.bench.config import experiment, starts
from twoview.bench.config.differences import check_same
from twoview.bench.config.experiment import (
    Place,
    chosen_device,
    precision_for,
    run_name,
    take_up,
    train_loader,
)
from twoview.bench.config.progressive import Growing, epochs_per_side
from twoview.bench.config.recipe import Recipe, check_schedule, dataset_of, parse
from twoview.bench.data import betons, own
from twoview.bench.evidence import Ceilings, Training, trained
from twoview.bench.measurement import flops
from twoview.bench.measurement.energy import Energy
from twoview.bench.measurement.memory import PeakMemory
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.runtime.locks import alone
from twoview.bench.runtime.progress import console, progress
from twoview.bench.runtime.signals import deferred
from twoview.bench.training import loggers, online_probes, out_of_memory
from twoview.bench.training.step_profile import StepProfiler
from twoview.bench.training.threads import loading_threads
from twoview.loaders.beton import Beton
from twoview.loaders.loader import Loader
from twoview.methods import checkpoint, determinism, ranks
from twoview.methods.device_batches import DeviceBatch, on_device
from twoview.methods.precision import DTYPES
from twoview.methods.trainer import Trainer

CEILING_ROUNDS = 3  # measurements of each ceiling: the rate of the loader alone, and of the model alone
CEILING_STEPS = 5  # steps in each measurement of the model
# The keys of a checkpoint that are needed only to resume training.
GONE_ON_FROM = ("world", "precision", "optimizer", "scaler", "loader", "random", "history")
T = TypeVar("T")


def train(
    recipe: Recipe[Any],
    place: Place,
    resume: bool,
    device: str = "auto",
    profiler: StepProfiler | None = None,
    log: loggers.Name | None = None,
) -> Path:
    """Train the recipe's method and return the path of its checkpoint.

    The checkpoint holds the recipe, the weights and all measurements. Under torchrun all ranks train together, and
    `recipe.batch` is the batch of all of them.
    resume: continue from an existing checkpoint. Without it an existing checkpoint is an error and is not overwritten.
    device: cpu, cuda, or auto for the best available.
    profiler: profiles some steps of the first rank.
    log: the logger that gets the new values after each checkpoint.

    On SIGTERM and SIGINT the current step is finished and a checkpoint is saved. If a measurement after training fails,
    the run does not: the measurement is missing in the record, and the reason is printed. Measurements that several
    ranks make together are an exception: if one of them fails, all ranks end with an error; the trained weights are
    kept, and `resume` repeats the measurements.

    Raises ValueError if the existing checkpoint has another recipe, FileExistsError if there is one without `resume`,
    and OSError if the folder of checkpoints is not writable, or if another process is writing this checkpoint.
    """
    check_schedule(recipe, recipe.name)
    where = chosen_device(device)
    if not resume:
        _check_new(place.checkpoint(recipe))  # before images are converted
    with ranks.process_group(where):
        console.quiet = ranks.rank() > 0
        with ranks.first_rank_first():
            recipe = own.read(recipe, place.betons)
        return _trained(recipe, place, resume, where, profiler, log)


def _trained(
    recipe: Recipe[Any],
    place: Place,
    resume: bool,
    where: torch.device,
    profiler: StepProfiler | None,
    log: loggers.Name | None,
) -> Path:
    """Train the recipe within the process group, and return the path of its checkpoint."""
    path = place.checkpoint(recipe)
    first = os.environ.get("RANK", "0") == "0"  # the first rank writes for all
    with alone(path, "the checkpoint") if first else nullcontext():
        state, recipe = _checkpoint_to_resume(path, recipe) if resume else (None, starts.pinned(recipe))
        if state is None:
            _check_new(path)
        if state and "measured" in state and profiler:
            raise ValueError(f"--profile: {path} is trained to the end, so no step is left to profile")
        if not (state and _measured_whole(state)):
            _train(recipe, place, path, state, where, profiler, log)
    return path


def _check_new(path: Path) -> None:
    """Raise FileExistsError if there is a checkpoint already, which must not be overwritten."""
    if path.exists():
        raise FileExistsError(f"{path} exists: continue with --resume, or use another --out")


def finish(path: Path, place: Place) -> None:
    """Make the measurements that are missing in the checkpoint of a finished training run.

    They are missing if the process was ended before them, or if an older version wrote the checkpoint. A checkpoint
    that has them, or whose training run is not finished, is not changed. Raises ValueError if it was trained with
    another number of ranks.
    """
    state = checkpoint.load(path)
    recipe = parse(state["recipe"], str(path))
    if "measured" not in state and state["epoch"] == recipe.epochs:
        where = chosen_device("auto")
        with ranks.process_group(where), alone(path, "the checkpoint"):
            console.quiet = ranks.rank() > 0
            _train(recipe, place, path, state, where)


def _train(
    recipe: Recipe[Any],
    place: Place,
    path: Path,
    state: dict[str, Any] | None,
    where: torch.device,
    profiler: StepProfiler | None = None,
    log: loggers.Name | None = None,
) -> None:
    """Train to the end, from the start or from the state of a checkpoint, and measure, within the process group.

    This is a function of its own so that the trainer is freed before the group ends.
    """
    if state and (absent := next((key for key in GONE_ON_FROM if state.get(key) is None), None)):
        raise ValueError(f"{path} cannot be resumed: it has no {absent}")
    _check_writable(path.parent)
    determinism.set_deterministic(recipe.deterministic)
    kind = state["precision"] if state else ranks.gather_objects(precision_for(recipe, where))[0]
    with ranks.first_rank_first():
        train_file = betons.dataset_beton(dataset_of(recipe), "train", place.betons, place.root, damaged=recipe.damaged)
    with out_of_memory.explained(recipe, where, kind):
        trainer = experiment.trainer(starts.randomly_started(recipe) if state else recipe, where, kind)
        if state:
            take_up(trainer, state, path)
            console.print(f"{escape(str(path))}: resuming after step {len(trainer.history.losses)}")
    model = recipe.model_dump(mode="json")
    with (
        _logged(log, recipe, trainer, place, state is not None) as on_checkpoint,
        out_of_memory.explained(recipe, where, kind),
        _batchnorm_explained(recipe),
        _loader(recipe, train_file, trainer) as loader,
    ):
        steps = recipe.epochs * len(loader) - len(trainer.history.losses)
        peak, energy = PeakMemory(), Energy(where)
        with (
            deferred() as asked,
            progress(f"train {run_name(recipe)} in {kind}", steps) as advance,
            _watched(profiler, trainer, steps) as watch,
        ):
            knn = online_probes.knn_watch(recipe, trainer, train_file, len(loader))

            def on_step() -> None:
                watch()
                knn()
                advance()

            if not trainer.fit(loader, path, model, on_step, asked, on_checkpoint):
                console.print(f"{escape(str(path))} holds step {len(trainer.history.losses)}: continue with --resume")
        if state and "measured" in state:
            training = trained.measured_in(state, path)[0]
        else:
            training = _recorded(recipe, trainer, loader, peak, energy)
            # Save the checkpoint before any rank does anything else, since the measurements below may end one or all.
            whole = {**trainer.state(model), "measured": {"training": training.model_dump(), "ceilings": None}}
            with ranks.first_rank_first():
                if ranks.rank() == 0:
                    checkpoint.save(path, whole)
            del whole
        measured = _measure(recipe, trainer, loader, training)
    if ranks.rank() == 0:
        checkpoint.save(path, {**checkpoint.load(path), "measured": measured})


def _check_writable(folder: Path) -> None:
    """Raise OSError, naming the folder, unless checkpoints can be written. To be called before the first epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def _batchnorm_explained(recipe: Recipe[Any]) -> Iterator[None]:
    """Explain torch's error, during the block, about BatchNorm over a single value, which does not name the cause."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected more than 1 value per channel"):
            raise
        batch = recipe.batch // ranks.world()
        over = "a part of it" if recipe.accumulate > 1 else "it"
        raise ValueError(
            f"batch must be at least {2 * recipe.accumulate} on each rank, since BatchNorm averages over {over}, "
            f"got {batch}"
        ) from None


@contextmanager
def _watched(profiler: StepProfiler | None, trainer: Trainer, steps: int) -> Iterator[Callable[[], None]]:
    """Yield a function to be called after each step, for the profiler on the first rank."""
    if profiler is None or ranks.rank() > 0:
        yield lambda: None
    else:
        with profiler.watching(trainer, steps) as watch:
            yield watch


@contextmanager
def _logged(
    log: loggers.Name | None, recipe: Recipe[Any], trainer: Trainer, place: Place, go_on: bool
) -> Iterator[Callable[[], None]]:
    """Yield a function to be called after each checkpoint, which logs the new values on the first rank."""
    if log is None or ranks.rank() > 0:
        yield lambda: None
        return
    with closing(loggers.open_logger(log, recipe, place.checkpoints.parent, go_on)) as logger:
        yield loggers.Gains(logger, trainer.history)


def _loader(recipe: Recipe[Any], file: Beton, trainer: Trainer) -> Loader | Growing:
    """Return the loader, with as many threads as it needs to keep up with the model on the same CPU.

    The threads are measured only if nothing else decides their number: the recipe, `deterministic`, several ranks, a
    GPU, or images that stay on the device.
    """
    loader = train_loader(recipe, file, trainer.method, trainer.device)
    decided = recipe.loader_threads or recipe.deterministic or ranks.world() > 1 or trainer.device.type == "cuda"
    if decided or recipe.resident == "on":
        return loader
    with loader:
        threads = loading_threads(trainer, loader, cpu_count())
    return train_loader(recipe, file, trainer.method, trainer.device, threads)


def _measured_whole(state: dict[str, Any]) -> bool:
    """Return whether no measurement is missing. If the ceilings are, `--resume` tries again to measure them."""
    return bool(state.get("measured", {}).get("ceilings"))


def _checkpoint_to_resume(path: Path, recipe: Recipe[Any]) -> tuple[dict[str, Any] | None, Recipe[Any]]:
    """Return the content of the newest undamaged checkpoint, or None if there is none, and the recipe with its hash.

    Raises ValueError if it has another recipe.
    """
    state, complaints = checkpoint.load_newest(path)
    for complaint in complaints:
        console.print(f"[yellow]{escape(complaint)}; the previous checkpoint is used instead")
    if state is None:
        return None, starts.pinned(recipe)
    theirs = parse(state["recipe"], str(path))
    recipe = starts.pinned(recipe, theirs)
    check_same(recipe.settings(), theirs.settings(), str(path), "resume with its settings, or use another --out")
    if complaints and os.environ.get("RANK", "0") == "0":
        checkpoint.save(path, state, kept=1)  # replaces the damaged one, which must not be kept as the previous one
    return state, recipe


def _recorded(
    recipe: Recipe[Any], trainer: Trainer, loader: Loader | Growing, peak: PeakMemory, energy: Energy
) -> Training:
    """Return the measurements made during training. Every rank must call this, since some values are gathered."""
    history = trainer.history
    sizes = _sizes(recipe)
    return Training(
        epoch_seconds=history.epoch_seconds,
        wait_seconds=history.wait_seconds,
        views_per_epoch=len(loader) * loader.batch * loader.world * len(loader.views),
        losses=history.losses,
        logged=history.logged,
        sizes=sizes if recipe.progressive.start else [],
        rank_wait_seconds=ranks.gather_objects(history.wait_seconds) if loader.world > 1 else [],
        damaged_images=sum(ranks.gather_objects(len(loader.skipped))),
        step_seconds=history.step_seconds,
        precision=trainer.precision,
        device=str(trainer.device),
        loader_threads=loader.threads,
        model_threads=torch.get_num_threads(),
        peak_host_mib=peak.host_mib,
        peak_device_mib=peak.device_mib,
        peak_device_reserved_mib=peak.device_reserved_mib,
        joules=_tried("the energy", lambda: energy.joules, None),
    )


def _measure(
    recipe: Recipe[Any], trainer: Trainer, loader: Loader | Growing, training: Training
) -> dict[str, dict[str, Any] | None]:
    """Make the measurements after training. The trainer must not be used afterwards.

    Returns the input of `evidence.trained.measured`: `training`, with the new measurements, and the ceilings, both as
    dictionaries. Failed measurements are omitted. Raises ValueError on a rank that fails in a measurement that all
    ranks make together.
    """
    epochs, dtype = epochs_per_side(_sizes(recipe)), DTYPES[trainer.precision]
    neither: tuple[Ceilings | None, int | None] = None, None
    no_samples: list[float] = []
    ceilings, step_flops = _tried(
        "ceilings", lambda: _ceilings(trainer, loader, epochs, run_name(recipe)), neither, together=True
    )
    products = _tried("matrix products", lambda: flops.matrix_ceiling(trainer.device, dtype), no_samples)
    head = _tried(
        "the online head", lambda: online_probes.head_seconds(trainer, loader.batch), no_samples, together=True
    )
    training = training.model_copy(
        update={"step_flops": step_flops, "matrix_flops_per_s": products, "online_seconds": head}
    )
    online_probes.warn(training)
    return {"training": training.model_dump(), "ceilings": ceilings.model_dump() if ceilings else None}


def _tried(what: str, measure: Callable[[], T], otherwise: T, together: bool = False) -> T:
    """Return measure(), or `otherwise` if it fails, in which case the reason is printed.

    what: the subject of the printed sentence.
    together: whether the ranks wait for each other in `measure`. If there are several and one fails, it raises a
    ValueError, which ends the others, too; if it continued, they would wait forever.
    """
    try:
        return measure()
    except Exception as error:  # counters, losses, loaders and a lack of memory may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        if together and ranks.world() > 1:
            raise ValueError(
                f"{what} could not be measured on rank {ranks.rank()}: {reason}; the checkpoint is kept, and --resume "
                "repeats the measurement"
            ) from error
        console.print(f"[yellow]{escape(f'{what} could not be measured: {reason}')}")
        return otherwise


def _sizes(recipe: Recipe[Any]) -> list[int]:
    """Return the side of the views in each epoch, in pixels."""
    return [recipe.progressive.side(recipe.size, epoch) for epoch in range(recipe.epochs)]


def _ceilings(
    trainer: Trainer, loader: Loader | Growing, epochs: dict[int, int], what: str
) -> tuple[Ceilings, int | None]:
    """Measure the rates of the loader alone and of the model alone, in turn, and count the FLOPs of a step.

    The model's batch is resident: it stays on the device. The trainer must not be used afterwards.
    epochs: for each size of the views, the number of an epoch with this size -> how many epochs have it. With several
    sizes, the rates are averages over all epochs, each at its own size, and the FLOPs are their mean.
    The FLOPs are None with several ranks, and if they cannot be counted.
    """
    views = loader.batch * loader.world * len(loader.views)
    seconds = np.zeros((2, CEILING_ROUNDS))  # seconds per view, of the loader and of the model
    step_flops = 0.0
    with progress(f"measuring the ceilings of {what}", CEILING_ROUNDS * len(epochs)) as advance:
        for epoch, count in epochs.items():
            share = count / sum(epochs.values())
            resident = next(on_device(loader.epoch(epoch), trainer.device))
            if len(epochs) > 1:
                _step_seconds(trainer, resident)  # warm up: a new size may compile or tune kernels
            for number in range(CEILING_ROUNDS):
                seconds[0, number] += share / (views * _batches_per_s(loader, epoch))
                seconds[1, number] += share * _step_seconds(trainer, resident) / (views * CEILING_STEPS)
                advance()
            if ranks.world() == 1:
                step_flops += share * _tried("a step's FLOPs", partial(_step_flops, trainer, resident), math.nan)
    rates = (1 / seconds).tolist()
    counted = None if math.isnan(step_flops) else round(step_flops) or None
    return Ceilings(loader_views_per_s=rates[0], model_views_per_s=rates[1]), counted


def _step_flops(trainer: Trainer, batch: DeviceBatch) -> float:
    """Return the FLOPs of a step. NaN if the memory is too small for a step that is not compiled, which needs more."""
    if trainer.graph:
        trainer.graph.forget()  # frees the memory of the CUDA graph, which this count needs
    try:
        return flops.counted(lambda: trainer.objective.forward(batch.views, batch.label, batch.masks)["loss"])
    except torch.OutOfMemoryError:
        return math.nan


def _batches_per_s(loader: Loader | Growing, epoch: int) -> float:
    """Return the rate between the first and the last of at most fifty batches of an epoch.

    If an epoch has one batch, the batches of several epochs are used.
    """
    epochs = 1 if len(loader) > 1 else 1 + CEILING_STEPS
    batches = chain.from_iterable(loader.epoch(epoch) for _ in range(epochs))
    arrivals = [time.perf_counter() for _ in islice(batches, 50)]
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])


def _step_seconds(trainer: Trainer, batch: DeviceBatch) -> float:
    """Return the seconds of CEILING_STEPS steps on the batch."""
    start = time.perf_counter()
    for _ in range(CEILING_STEPS):
        out = trainer.step(batch, trainer.epochs)
    out["loss"].item()  # waits for the device
    return time.perf_counter() - start
