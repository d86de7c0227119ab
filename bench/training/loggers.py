"""TensorBoard, MLflow and Weights & Biases: what the record of evidence gets goes to one of them too, if asked.

Its package is imported only then. Values are written behind a checkpoint, when the host has them anyway. Where they go
to is the package's own matter (`MLFLOW_TRACKING_URI`, `WANDB_MODE`); TensorBoard's files lie in OUT/tensorboard.
"""

import importlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol

from twoview.bench.config.experiment import run_name
from twoview.bench.config.recipe import Recipe, flat
from twoview.bench.evidence import Run
from twoview.methods.trainer import History

Name = Literal["tensorboard", "mlflow", "wandb"]
MLFLOW_BATCH = 1000  # metrics that it takes at once
PROJECT = "twoview"


class Scalar(NamedTuple):
    name: str
    value: float
    step: int


class Logger(Protocol):
    def write(self, scalars: Sequence[Scalar]) -> None:
        """scalars: their steps never fall, from one call to the next either."""

    def close(self) -> None: ...


def open_logger(name: Name, recipe: Recipe[Any], out: Path, go_on: bool) -> Logger:
    """The run of that recipe in `out`; go_on: what is there of it goes on, else a new one begins.

    ImportError with the command that installs the package.
    """
    folder = out / name / run_name(recipe)
    logger: Logger = LOGGERS[name](recipe, folder, go_on)
    return logger


class TensorBoard:
    def __init__(self, recipe: Recipe[Any], folder: Path, go_on: bool) -> None:
        package("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        if not go_on:
            for old in folder.glob("events.out.tfevents.*"):  # of a run whose checkpoint is gone; curves would mix
                old.unlink()
        self.writer = SummaryWriter(str(folder))
        if not go_on:
            settings = json.dumps(recipe.model_dump(mode="json"), indent=1)
            self.writer.add_text("recipe", "".join(f"    {line}\n" for line in settings.splitlines()))

    def write(self, scalars: Sequence[Scalar]) -> None:
        for one in scalars:
            self.writer.add_scalar(one.name, one.value, one.step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class MLflow:
    def __init__(self, recipe: Recipe[Any], folder: Path, go_on: bool) -> None:
        self.mlflow = package("mlflow")
        known = _known_run(folder) if go_on else None
        if known is None:
            self.mlflow.set_experiment(PROJECT)
        self.run = self.mlflow.start_run(run_id=known, run_name=run_name(recipe)).info.run_id
        if known is None:
            self.mlflow.log_params(flat(recipe.model_dump(mode="json")))
            _remember(folder, self.run)
        self.client = self.mlflow.MlflowClient()

    def write(self, scalars: Sequence[Scalar]) -> None:
        now = round(time.time() * 1000)
        metrics = [self.mlflow.entities.Metric(one.name, one.value, now, one.step) for one in scalars]
        for start in range(0, len(metrics), MLFLOW_BATCH):
            self.client.log_batch(self.run, metrics[start : start + MLFLOW_BATCH])

    def close(self) -> None:
        self.mlflow.end_run()


class WandB:
    def __init__(self, recipe: Recipe[Any], folder: Path, go_on: bool) -> None:
        wandb = package("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=PROJECT,
            name=run_name(recipe),
            dir=folder,
            config=recipe.model_dump(mode="json"),
            id=_known_run(folder) if go_on else None,
            resume="allow",
        )
        _remember(folder, self.run.id)

    def write(self, scalars: Sequence[Scalar]) -> None:
        for one in scalars:
            self.run.log({one.name: one.value}, step=one.step)

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[Name, Callable[..., Logger]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


class Gains:
    """Called behind a checkpoint: writes what the history has gained since the last one.

    Steps count from 0; what is of an epoch is of its last step.
    """

    def __init__(self, logger: Logger, history: History) -> None:
        self.logger, self.history = logger, history
        self.written = {name: len(values) for name, values in self._series().items()}

    def __call__(self) -> None:
        scalars = []
        last = len(self.history.losses) - 1
        for name, values in self._series().items():
            written = self.written.get(name, 0)
            self.written[name] = len(values)
            steps = range(written, len(values)) if name == "loss" else [last] * (len(values) - written)
            scalars += [Scalar(name, value, step) for step, value in zip(steps, values[written:], strict=True)]
        self.logger.write(scalars)

    def _series(self) -> dict[str, list[float]]:
        """By name; the loss is of steps, the others of epochs."""
        history = self.history
        of_epochs = {"epoch_seconds": history.epoch_seconds, "wait_seconds": history.wait_seconds}
        return {"loss": history.losses, **of_epochs, **history.logged}


def judged(record: Run) -> list[Scalar]:
    """The judge's accuracies, in percent, after the last step."""
    steps = len(record.training.losses) if record.training else 0
    return [Scalar(name, getattr(record.accuracy, name), steps) for name in ("knn_top1", "linear_top1")]


def package(name: Name) -> ModuleType:
    """ImportError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"--log {name}: the package {name} is not installed: pip install {name}") from None


def _known_run(folder: Path) -> str | None:
    file = folder / "run"
    return file.read_text() if file.exists() else None


def _remember(folder: Path, run: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run").write_text(run)
