"""The one loop for every method: channels-last, autocast, warm-up and cosine, checkpoints at epoch ends.

It knows no method by name. An epoch is a pure function of the state at its start, because the loader's random numbers
are keyed by (seed, epoch, sample), so a run resumed from a checkpoint goes on as if it had never stopped: bit-equal
where the arithmetic is, which on a CPU means one thread (oneDNN's sums depend on which thread ends first).
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from methods import checkpoint, optim
from methods.method import Method
from methods.normalise import Normalise
from methods.precision import Precision, autocast


class BatchLike(Protocol):
    """The `Batch` of loaders/loader.py, by its shape."""

    @property
    def views(self) -> tuple[Tensor, ...]: ...
    @property
    def label(self) -> Tensor: ...


class LoaderLike(Protocol):
    def __len__(self) -> int: ...
    def epoch(self, epoch: int) -> Iterator[BatchLike]: ...


@dataclass
class History:
    """Raw samples. epoch_seconds: wall time; wait_seconds: of it, spent waiting for a batch; losses: every step.

    logged: what else the method found worth logging, the mean of each epoch.
    """

    epoch_seconds: list[float] = field(default_factory=list)
    wait_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    logged: dict[str, list[float]] = field(default_factory=dict)


class Trainer:
    """Trains a method for a number of epochs.

    normalise: applied to the uint8 views on the device. precision: of the autocast; fp16 brings a loss scaler.
    """

    def __init__(
        self,
        method: Method,
        settings: optim.Optim,
        *,
        epochs: int,
        normalise: Normalise,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.method = method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings, self.epochs, self.device, self.precision = settings, epochs, device, precision
        self.normalise = normalise.to(device)
        self.optimiser = optim.build(settings, self.method)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.history = History()

    @property
    def finished_epochs(self) -> int:
        return len(self.history.epoch_seconds)

    def step(self, batch: BatchLike, epoch: float) -> dict[str, Tensor]:
        """One optimiser step at a fractional epoch.

        Returns the loss and what else the method logs, on the device, without waiting for it.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = optim.lr_at(self.settings, epoch, self.epochs)
        views = tuple(self.normalise(view.to(self.device, non_blocking=True)) for view in batch.views)
        label = batch.label.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            out = self.method.loss(views, label)
        self.scaler.scale(out["loss"]).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        self.method.after_step(epoch / self.epochs)
        return {name: value.detach().float() for name, value in out.items()}

    def fit(self, loader: LoaderLike, path: Path, recipe: dict[str, Any], on_step: Callable[[], None]) -> None:
        """Trains from `finished_epochs` to the end, writing a checkpoint to `path` after each epoch.

        recipe: kept in the checkpoint, so that a probe needs nothing else. on_step: called after each step.
        FloatingPointError, naming method, step and checkpoint, if the loss is not finite; the last good checkpoint is
        kept.
        """
        self.method.train()
        for epoch in range(self.finished_epochs, self.epochs):
            start, wait, steps = time.perf_counter(), 0.0, []
            batches = loader.epoch(epoch)
            for number in range(len(loader)):
                asked = time.perf_counter()
                batch = next(batches)
                wait += time.perf_counter() - asked
                steps.append(self.step(batch, epoch + number / len(loader)))
                on_step()
            values = {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
            losses = values.pop("loss").tolist()  # the only wait for the device in an epoch
            self.history.epoch_seconds.append(time.perf_counter() - start)
            self.history.wait_seconds.append(wait)
            self._check(losses, path)
            self.history.losses += losses
            for name, value in values.items():
                self.history.logged.setdefault(name, []).append(value.mean().item())
            checkpoint.save(path, self._state(recipe))

    def resume(self, state: dict[str, Any]) -> None:
        """Takes up a checkpoint's state, as `fit` wrote it."""
        self.method.load_state_dict(state["method"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = History(**state["history"])

    def _state(self, recipe: dict[str, Any]) -> dict[str, Any]:
        return {
            "recipe": recipe,
            "epoch": self.finished_epochs,
            "precision": self.precision,
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": asdict(self.history),
        }

    def _check(self, losses: list[float], path: Path) -> None:
        for number, loss in enumerate(losses):
            if not math.isfinite(loss):
                step = len(self.history.losses) + number
                kept = f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"
                method = type(self.method).__name__
                raise FloatingPointError(f"the loss of {method} is {loss} at step {step}: {kept}")
