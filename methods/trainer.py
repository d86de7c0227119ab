"""The training loop that all methods share: channels-last, autocast, compiled or not, in one process or many.

It knows no method by name. A step is a pure function of the state before it, because the loader's random numbers are
keyed by (seed, epoch, sample). A run resumed from a checkpoint therefore continues as if it had never stopped, and is
bit-equal to an uninterrupted run if the arithmetic is deterministic. On a CPU that takes a single thread, because
oneDNN's sums depend on which thread ends first.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from twoview.methods import checkpoint, graph, optim, ranks, resumed
from twoview.methods.accumulate import divide
from twoview.methods.clock import StepClock
from twoview.methods.device_batches import BatchLike, DeviceBatch, on_device
from twoview.methods.method import Method
from twoview.methods.normalize import Normalize
from twoview.methods.parts import part
from twoview.methods.precision import Precision, autocast
from twoview.methods.sync_batchnorm import synchronized

Compile = Literal["off", "default", "max-autotune"]
SMALLEST_SCALE = 1e-4  # fp16 loss scale that counts as diverged; it begins at 65,536 and halves at each skipped step


class LoaderLike(Protocol):
    """The interface of a data loader, such as `twoview.Loader`. Its length is the number of batches per epoch."""

    def __len__(self) -> int: ...
    def epoch(self, epoch: int) -> Iterator[BatchLike]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class History:
    """The measurements of a run so far.

    epoch_seconds: wall time of each epoch. wait_seconds: the part of it spent waiting for batches.
    step_seconds, losses: one value per step. logged: the mean per epoch of each other value that the method logs.
    open_seconds, open_wait, open_logged: the same for the current epoch, since a checkpoint may interrupt an epoch.
    """

    epoch_seconds: list[float] = field(default_factory=list)
    wait_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    logged: dict[str, list[float]] = field(default_factory=dict)
    open_seconds: float = 0.0
    open_wait: float = 0.0
    open_logged: dict[str, list[float]] = field(default_factory=dict)

    def close_epoch(self) -> None:
        """Move the values of the current epoch to the lists of finished epochs."""
        self.epoch_seconds.append(self.open_seconds)
        self.wait_seconds.append(self.open_wait)
        for name, values in self.open_logged.items():
            self.logged.setdefault(name, []).append(sum(values) / len(values))
        self.open_seconds, self.open_wait, self.open_logged = 0.0, 0.0, {}


class Objective(nn.Module):
    """The method's loss as one module: uint8 views, labels and masks -> the results of `Method.loss`.

    Normalization and autocast are inside, so that torch.compile sees the whole computation.
    """

    def __init__(self, method: Method, normalize: Normalize, device: torch.device, precision: Precision) -> None:
        super().__init__()
        self.method, self.normalize, self.device, self.precision = method, normalize, device, precision

    def forward(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...]) -> dict[str, Tensor]:
        normalized = tuple(self.normalize(view) for view in views)
        with autocast(self.device, self.precision):
            return self.method.loss(normalized, label, masks)


class Trainer:
    """Trains a method for a number of epochs.

    settings: the recipe's `[optim]` table. normalize: module applied to the uint8 views on the device.
    precision: precision of autocast; fp16 uses a loss scaler. compile: mode of torch.compile for the forward and
    backward passes, or "off"; with "max-autotune" both passes use CUDA graphs where they can.
    cuda_graph: whether the whole step is recorded as one CUDA graph (`methods/graph.py`). Raises ValueError if it
    cannot be recorded. sync_batchnorm: whether BatchNorm uses the statistics of the joined batch of all ranks.
    accumulate: number of parts in which the encoder sees a batch (`methods/accumulate.py`); each rank's batch must be
    divisible by it. Raises ValueError if it is above 1 and compile is "max-autotune" or there is a CUDA graph.
    checkpoint_steps: number of steps after which a checkpoint is written within an epoch; with 0, checkpoints are
    written only after epochs.
    """

    def __init__(
        self,
        method: Method,
        settings: optim.Optim,
        *,
        epochs: int,
        normalize: Normalize,
        device: torch.device,
        precision: Precision,
        compile: Compile = "off",
        cuda_graph: bool = False,
        sync_batchnorm: bool = False,
        accumulate: int = 1,
        checkpoint_steps: int = 0,
    ) -> None:
        if cuda_graph:
            graph.check(device, precision, compile, settings, accumulate)
        if accumulate > 1:
            divide(method, accumulate, compile)
        if sync_batchnorm and ranks.world() > 1:
            synchronized(method, device)
        self.method = method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings, self.epochs, self.device, self.precision = settings, epochs, device, precision
        self.checkpoint_steps = checkpoint_steps
        self.normalize = normalize.to(device)
        self.objective: nn.Module = Objective(self.method, self.normalize, device, precision)
        self.compiled = compile != "off"
        if self.compiled:
            self.objective.compile(mode=compile, dynamic=False)
        if ranks.world() > 1:
            # Buffers need no broadcast: all ranks compute the same ones, except in unsynchronized BatchNorm.
            self.objective = DistributedDataParallel(self.objective, broadcast_buffers=False)
        self.optimizer = optim.build(settings, self.method, recorded=cuda_graph)
        self.graph = graph.Graph(self._work, type(method).__name__, device) if cuda_graph else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        if ranks.rank() > 0:  # rank 0 draws the numbers of a single process, every other rank its own
            torch.manual_seed(torch.initial_seed() + ranks.rank())
        self.history = History()
        self._loader_state: dict[str, Any] | None = None
        self._progress: float = 0.0  # share of the run done at the current step
        self._open: list[dict[str, Tensor]] = []  # results on the device of the steps since the last checkpoint
        self._clock, self._started = StepClock(device), 0.0

    @property
    def finished_epochs(self) -> int:
        """Number of epochs that are complete, including epochs before a resumption."""
        return len(self.history.epoch_seconds)

    def step(self, batch: DeviceBatch, epoch: float) -> dict[str, Tensor]:
        """Take one optimizer step at a fractional epoch, with a batch that is on the device.

        Returns the loss and the other scalars that the method logs, on the device, without waiting for it.
        """
        optim.schedule(self.settings, self.optimizer, epoch, self.epochs)
        self._progress = epoch / self.epochs
        if self.graph is None:
            return self._work(batch)
        # In a CUDA graph the numbers that change from step to step are scalars on the device.
        for number, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self.graph.number(f"lr of group {number}", group["lr"])
        self._progress = self.graph.number("progress", self._progress, torch.float64)
        return self.graph(batch)

    def _work(self, batch: DeviceBatch) -> dict[str, Tensor]:
        """Do the work of a step on the device, after the schedules are set. A CUDA graph records this function."""
        with part("forward"):
            out = self.objective(batch.views, batch.label, batch.masks)
        with part("backward"):
            self.scaler.scale(out["loss"]).backward()
        with part("optimizer"):
            if self.settings.clip_norm:
                self.scaler.unscale_(self.optimizer)
                optim.clip(self.optimizer, self.settings.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
        with part("after step"):
            self.method.after_step(self._progress)
        # The results are copied because the CUDA graphs of compile's max-autotune overwrite them in the next step.
        return {name: value.detach().to(torch.float32, copy=True) for name, value in out.items()}

    def fit(
        self,
        loader: LoaderLike,
        path: Path | None,
        recipe: dict[str, Any],
        on_step: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
        on_checkpoint: Callable[[], None] = lambda: None,
        until: int | None = None,
    ) -> bool:
        """Train to the end, with a checkpoint at `path` after each epoch. Return False if it was stopped early.

        path: where to write checkpoints, None for no checkpoints. recipe: stored in the checkpoint, so that a probe
        needs no other file. on_step: called after each step. stop: called after each step; once it returns true on any
        rank, all ranks write a checkpoint and return. on_checkpoint: called on the first rank after each checkpoint,
        when the history is on the host. until: number of finished epochs at which to return before the run ends. Raises
        FloatingPointError, naming method, step and checkpoint, if the loss is not finite or if, in fp16, no gradient
        is; the last good checkpoint is kept. Raises ValueError, naming the checkpoint, if the run was resumed from it
        and its loader state does not fit this loader.
        """
        self.method.train()
        if self._loader_state:
            try:
                loader.load_state_dict(self._loader_state)
            except ValueError as error:
                raise ValueError(f"{path or 'the checkpoint'} cannot be resumed from: {error}") from None
        while self.finished_epochs < (self.epochs if until is None else until):
            for done in self._steps(loader, path, on_step):
                stopped = ranks.any_rank(stop())
                if stopped or done == len(loader) or (self.checkpoint_steps and done % self.checkpoint_steps == 0):
                    with part("checkpoint"):
                        self._record(loader, done, path)
                        if path is not None:
                            self._save(path, recipe)
                        if ranks.rank() == 0:
                            on_checkpoint()
                    self._begin_span()  # the time for writing the checkpoint is not counted as training
                if stopped:
                    return self.finished_epochs == self.epochs
        return True

    def _steps(self, loader: LoaderLike, path: Path | None, on_step: Callable[[], None]) -> Iterator[int]:
        """Take the remaining steps of the current epoch. After each one, yield how many steps of the epoch are done."""
        epoch = self.finished_epochs
        self._begin_span()
        batches = on_device(loader.epoch(epoch), self.device)
        done = int(loader.state_dict()["batches"])
        for batch in self._clock.batches(batches):
            try:
                with self._clock.step():
                    self._open.append(self.step(batch, epoch + done / len(loader)))
            except FloatingPointError as error:  # losses on a CPU check that their embeddings are finite
                raise self._diverged(f"{error}", len(self._open), path) from None
            on_step()
            done += 1
            yield done

    def _begin_span(self) -> None:
        """Begin to collect results and times, which the next `_record` adds to the history."""
        self._open, self._clock, self._started = [], StepClock(self.device), time.perf_counter()

    def resume(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint that `fit` wrote, so that `fit` continues from there.

        Raises ValueError if another number of ranks wrote it, or if its optimizer has other weights or settings.
        """
        if state["world"] != ranks.world():
            raise ValueError(f"the checkpoint was written by {state['world']} ranks, but this run has {ranks.world()}")
        self.method.load_state_dict(state["method"])
        theirs, mine = state["optimizer"], self.optimizer.state_dict()
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        resumed.check_groups(theirs["param_groups"], mine["param_groups"])
        kept = resumed.checked_state(theirs["state"], mine["state"], weights, self.settings.name)
        resumed.check_scaler(state["scaler"], self.scaler.state_dict())
        # The groups are this optimizer's own: recipe and schedules decide their values, and a checkpoint from another
        # version of torch may lack keys.
        self.optimizer.load_state_dict({**mine, "state": kept})
        self.scaler.load_state_dict(state["scaler"])
        self.history = History(**state["history"])
        if self.graph:
            self.graph.forget()
        self._loader_state = state["loader"]
        random = state["random"][ranks.rank()]
        torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda" and "cuda" in random:  # a checkpoint written on a CPU has no state for CUDA
            torch.cuda.set_rng_state(random["cuda"], self.device)

    def _save(self, path: Path, recipe: dict[str, Any]) -> None:
        """Write a checkpoint on rank 0. Every rank must call it."""
        state = self.state(recipe)
        if ranks.rank() == 0:
            checkpoint.save(path, state)

    def state(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """Return the content of a checkpoint, with the current weights and not copies. Every rank must call it."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "recipe": recipe,
            "epoch": self.finished_epochs,
            "world": ranks.world(),
            "precision": self.precision,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self._loader_state,
            "random": ranks.gather_objects(random),
            "history": asdict(self.history),
        }

    def _record(self, loader: LoaderLike, done: int, path: Path | None) -> None:
        """Add the results of the steps since the last call to the history, as means over all ranks.

        This is the only time between two checkpoints that the host waits for the device. done: number of steps of the
        current epoch that are done. Raises FloatingPointError if the run has diverged.
        """
        history, steps = self.history, self._open
        values = {name: ranks.mean_over_ranks(torch.stack([s[name] for s in steps])).tolist() for name in steps[0]}
        self._clock.read()
        history.open_seconds += time.perf_counter() - self._started
        history.open_wait += sum(self._clock.wait_seconds)
        for number, loss in enumerate(losses := values.pop("loss")):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}", number, path)
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            # Gradients that overflow at every scale are NaN or infinite, and from here on every step would be skipped.
            raise self._diverged("no loss scale gives finite gradients in fp16", len(losses) - 1, path)
        history.losses += losses
        history.step_seconds += self._clock.step_seconds
        for name, series in values.items():
            history.open_logged.setdefault(name, []).extend(series)
        if done == len(loader):
            history.close_epoch()
            done = 0
        self._loader_state = {**loader.state_dict(), "epoch": self.finished_epochs, "batches": done}

    def _diverged(self, what: str, number: int, path: Path | None) -> FloatingPointError:
        """Return the error of a diverged run. what: the reason. number: step, counted from the last checkpoint."""
        step = len(self.history.losses) + number
        kept = f"the last good checkpoint is {path}" if path and path.exists() else "there is no checkpoint"
        return FloatingPointError(f"{type(self.method).__name__} diverged at step {step} ({what}): {kept}")
