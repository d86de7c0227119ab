"""Training a recipe, and what is measured meanwhile."""

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

from twoview.bench.config import experiment
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
from twoview.bench.config.recipe import Recipe, check_schedule, parse
from twoview.bench.data import betons
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

CEILING_ROUNDS = 3
CEILING_STEPS = 5
# What of a checkpoint only a training needs.
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
    """Trains the recipe's method; returns its checkpoint, which holds recipe, weights and all that was measured.

    Under torchrun all ranks train together, `recipe.batch` being the batch of all of them.
    resume: take up the checkpoint that is there. Without it an existing checkpoint is an error, never overwritten.
    profiler: watches some steps of the first rank. device: cpu, cuda, or auto for the best there is.
    log: gets behind each checkpoint what the history has gained.
    SIGTERM and SIGINT let the step end and leave a checkpoint. What is measured once the training is finished never
    fails it: what cannot be measured is absent from the record, and a sentence says why. Except among several
    ranks: one that cannot measure what they measure together ends them all; the training is kept, and `resume` measures
    again.
    ValueError if the checkpoint there is of another recipe; OSError if the folder of checkpoints cannot be written, or
    another process writes this checkpoint now.
    """
    check_schedule(recipe, recipe.name)
    path = place.checkpoint(recipe)
    first = os.environ.get("RANK", "0") == "0"  # which writes for all ranks
    with alone(path, "the checkpoint") if first else nullcontext():
        state = _checkpoint_to_resume(path, recipe) if resume else None
        if state is None and path.exists():
            raise FileExistsError(f"{path} exists: go on with --resume, or name another --out")
        if state and "measured" in state and profiler:
            raise ValueError(f"--profile: {path} is trained to the end, and no step is left")
        if not (state and _measured_whole(state)):
            _train(recipe, place, path, state, device, profiler, log)
    return path


def finish(path: Path, place: Place) -> None:
    """Measures what a training that came to its end left unmeasured, because it was ended then or is of an older
    version. Nothing is done to one that is measured, or not at its end.

    ValueError if another number of ranks trained it.
    """
    state = checkpoint.load(path)
    recipe = parse(state["recipe"], str(path))
    if "measured" not in state and state["epoch"] == recipe.epochs:
        with alone(path, "the checkpoint"):
            _train(recipe, place, path, state)


def _train(
    recipe: Recipe[Any],
    place: Place,
    path: Path,
    state: dict[str, Any] | None,
    device: str = "auto",
    profiler: StepProfiler | None = None,
    log: loggers.Name | None = None,
) -> None:
    """Trains from the start, or from the state of a checkpoint, to the end, and measures."""
    if state and (absent := next((key for key in GONE_ON_FROM if state.get(key) is None), None)):
        raise ValueError(f"{path} cannot be gone on from: it has no {absent}")
    _check_writable(path.parent)
    where = chosen_device(device)
    with ranks.process_group(where):
        _train_in_group(recipe, place, path, state, where, profiler, log)


def _train_in_group(
    recipe: Recipe[Any],
    place: Place,
    path: Path,
    state: dict[str, Any] | None,
    where: torch.device,
    profiler: StepProfiler | None,
    log: loggers.Name | None,
) -> None:
    """A function of its own, so that no trainer outlives the group."""
    console.quiet = ranks.rank() > 0
    determinism.set_deterministic(recipe.deterministic)
    kind = state["precision"] if state else ranks.gather_objects(precision_for(recipe, where))[0]
    with ranks.first_rank_first():
        train_file = betons.dataset_beton(recipe.dataset, "train", place.betons, place.root, damaged=recipe.damaged)
    with out_of_memory.explained(recipe, where, kind):
        trainer = experiment.trainer(recipe, where, kind)
        if state:
            take_up(trainer, state, path)
            console.print(f"{escape(str(path))} goes on after step {len(trainer.history.losses)}")
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
                console.print(f"{escape(str(path))} holds step {len(trainer.history.losses)}: go on with --resume")
        if state and "measured" in state:
            training = trained.measured_in(state, path)[0]
        else:
            training = _recorded(recipe, trainer, loader, peak, energy)
            # Kept before any rank tries anything else: what is measured from here on may end one of them, or all.
            whole = {**trainer.state(model), "measured": {"training": training.model_dump(), "ceilings": None}}
            with ranks.first_rank_first():
                if ranks.rank() == 0:
                    checkpoint.save(path, whole)
            del whole
        measured = _measure(recipe, trainer, loader, training)
    if ranks.rank() == 0:
        checkpoint.save(path, {**checkpoint.load(path), "measured": measured})


def _check_writable(folder: Path) -> None:
    """OSError, naming the folder, where no checkpoint could be written after the first epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def _batchnorm_explained(recipe: Recipe[Any]) -> Iterator[None]:
    """Around a training: torch refuses BatchNorm over a single value in the first step, and does not say whose."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected more than 1 value per channel"):
            raise
        batch = recipe.batch // ranks.world()
        raise ValueError(
            f"batch must be at least 2 on each rank, since BatchNorm averages over it, got {batch}"
        ) from None


@contextmanager
def _watched(profiler: StepProfiler | None, trainer: Trainer, steps: int) -> Iterator[Callable[[], None]]:
    if profiler is None or ranks.rank() > 0:
        yield lambda: None
    else:
        with profiler.watching(trainer, steps) as watch:
            yield watch


@contextmanager
def _logged(
    log: loggers.Name | None, recipe: Recipe[Any], trainer: Trainer, place: Place, go_on: bool
) -> Iterator[Callable[[], None]]:
    """To be called behind a checkpoint, on the first rank."""
    if log is None or ranks.rank() > 0:
        yield lambda: None
        return
    with closing(loggers.open_logger(log, recipe, place.checkpoints.parent, go_on)) as logger:
        yield loggers.Gains(logger, trainer.history)


def _loader(recipe: Recipe[Any], file: Beton, trainer: Trainer) -> Loader | Growing:
    """The loader, on as many threads as the model beside it needs, unless the recipe says how many. A run of many
    ranks, and one that must be bit-equal to another, are not measured first.
    """
    loader = train_loader(recipe, file, trainer.method, trainer.device)
    decided = recipe.loader_threads or recipe.deterministic or ranks.world() > 1 or trainer.device.type == "cuda"
    if decided or recipe.resident == "on":
        return loader
    with loader:
        threads = loading_threads(trainer, loader, cpu_count())
    return train_loader(recipe, file, trainer.method, trainer.device, threads)


def _measured_whole(state: dict[str, Any]) -> bool:
    """Whether nothing is left to do: what could not be measured at the end is tried again by `--resume`."""
    return bool(state.get("measured", {}).get("ceilings"))


def _checkpoint_to_resume(path: Path, recipe: Recipe[Any]) -> dict[str, Any] | None:
    state, complaints = checkpoint.load_newest(path)
    for complaint in complaints:
        console.print(f"[yellow]{escape(complaint)}; the checkpoint before it is taken")
    if state is None:
        return None
    theirs = parse(state["recipe"], str(path)).settings()
    check_same(recipe.settings(), theirs, str(path), "resume with its settings, or name another --out")
    if complaints and os.environ.get("RANK", "0") == "0":
        checkpoint.save(path, state, kept=1)  # in the place of the damaged one, which is not kept as an older one
    return state


def _recorded(
    recipe: Recipe[Any], trainer: Trainer, loader: Loader | Growing, peak: PeakMemory, energy: Energy
) -> Training:
    """What was watched while the trainer trained; of all ranks: each must ask."""
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
    """What `measured` reads again: what was watched, with what is measured now, and the ceilings; the trainer is spent.

    What cannot be measured is absent; ValueError on a rank that cannot measure what all ranks measure together.
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
    """What is measured of a training that is finished, or `otherwise`, with a sentence that says why.

    together: the ranks wait for each other in it, so of several one that fails is a ValueError: were it to go on, the
    others would wait in vain, and its end is what ends them.
    """
    try:
        return measure()
    except Exception as error:  # of any kind: whatever counters, losses, loaders and too little memory raise
        reason = " ".join(str(error).split()) or type(error).__name__
        if together and ranks.world() > 1:
            raise ValueError(
                f"{what} could not be measured on rank {ranks.rank()}: {reason}; the training is kept, and --resume "
                "measures again"
            ) from error
        console.print(f"[yellow]{escape(f'{what} could not be measured: {reason}')}")
        return otherwise


def _sizes(recipe: Recipe[Any]) -> list[int]:
    """Side of the views in each epoch, in pixels."""
    return [recipe.progressive.side(recipe.size, epoch) for epoch in range(recipe.epochs)]


def _ceilings(
    trainer: Trainer, loader: Loader | Growing, epochs: dict[int, int], what: str
) -> tuple[Ceilings, int | None]:
    """Rates of the loader alone and of the model alone on a resident batch, in turn, and a step's FLOPs where one
    process takes it. Spends the trainer.

    epochs: one of each size of the views -> how many have it. Of several sizes the rates are those of all the epochs
    together, each at its own, and the FLOPs their mean; None where they cannot be counted.
    """
    views = loader.batch * loader.world * len(loader.views)
    seconds = np.zeros((2, CEILING_ROUNDS))  # a view takes the loader, and the model
    step_flops = 0.0
    with progress(f"ceilings of {what}", CEILING_ROUNDS * len(epochs)) as advance:
        for epoch, count in epochs.items():
            share = count / sum(epochs.values())
            resident = next(on_device(loader.epoch(epoch), trainer.device))
            if len(epochs) > 1:
                _step_seconds(trainer, resident)  # what another size brings with it
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
    """NaN where the memory is too little: what is counted is not compiled, and needs more."""
    if trainer.graph:
        trainer.graph.forget()  # its memory is needed
    try:
        return flops.counted(lambda: trainer.objective.forward(batch.views, batch.label, batch.masks)["loss"])
    except torch.OutOfMemoryError:
        return math.nan


def _batches_per_s(loader: Loader | Growing, epoch: int) -> float:
    """Between the first batch and the last of at most fifty; where an epoch is one batch, those of several epochs."""
    epochs = 1 if len(loader) > 1 else 1 + CEILING_STEPS
    batches = chain.from_iterable(loader.epoch(epoch) for _ in range(epochs))
    arrivals = [time.perf_counter() for _ in islice(batches, 50)]
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])


def _step_seconds(trainer: Trainer, batch: DeviceBatch) -> float:
    start = time.perf_counter()
    for _ in range(CEILING_STEPS):
        out = trainer.step(batch, trainer.epochs)
    out["loss"].item()  # waits for the device
    return time.perf_counter() - start
