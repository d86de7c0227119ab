"""Log the values of the evidence record to TensorBoard, MLflow or Weights & Biases.

The package is imported only if its logger is used. Values are written after each checkpoint, when they are on the host
anyway. The destination is set by the package's own variables (`MLFLOW_TRACKING_URI`, `WANDB_MODE`); TensorBoard's files
are in OUT/tensorboard.
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
MLFLOW_BATCH = 1000  # metrics that MLflow accepts in one call
PROJECT = "twoview"


class Scalar(NamedTuple):
    """One logged value. step: number of the training step, counted from 0."""

    name: str
    value: float
    step: int


class Logger(Protocol):
    """A writer of the values of one run."""

    def write(self, scalars: Sequence[Scalar]) -> None:
        """Write the values. Their steps never decrease, within a call or from one call to the next."""

    def close(self) -> None: ...


def open_logger(name: Name, recipe: Recipe[Any], out: Path, go_on: bool) -> Logger:
    """Return the logger for a run of the recipe, which keeps its files in `out`.

    go_on: whether to continue the run that was logged there before; otherwise a new one begins. Raises ImportError,
    with the command that installs the package, if it is not installed.
    """
    folder = out / name / run_name(recipe)
    logger: Logger = LOGGERS[name](recipe, folder, go_on)
    return logger


class TensorBoard:
    """Writes TensorBoard's event files to `folder`."""

    def __init__(self, recipe: Recipe[Any], folder: Path, go_on: bool) -> None:
        package("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        if not go_on:
            # Files of an earlier run, whose checkpoint is gone, would mix their curves with this run's.
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        self.writer = SummaryWriter(str(folder))
        if not go_on:
            settings = json.dumps(recipe.published(), indent=1)
            self.writer.add_text("recipe", "".join(f"    {line}\n" for line in settings.splitlines()))

    def write(self, scalars: Sequence[Scalar]) -> None:
        for one in scalars:
            self.writer.add_scalar(one.name, one.value, one.step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """Writes to an MLflow run, whose id is kept in `folder` so that a resumed training run can continue it."""

    def __init__(self, recipe: Recipe[Any], folder: Path, go_on: bool) -> None:
        self.mlflow = package("mlflow")
        known = _known_run(folder) if go_on else None
        if known is None:
            self.mlflow.set_experiment(PROJECT)
        self.run = self.mlflow.start_run(run_id=known, run_name=run_name(recipe)).info.run_id
        if known is None:
            self.mlflow.log_params(flat(recipe.published()))
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
    """Writes to a Weights & Biases run, whose id is kept in `folder` so that a resumed training run can continue it."""

    def __init__(self, recipe: Recipe[Any], folder: Path, go_on: bool) -> None:
        wandb = package("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=PROJECT,
            name=run_name(recipe),
            dir=folder,
            config=recipe.published(),
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
    """Writes the values that the history has gained since the last call. It is to be called after each checkpoint.

    Steps count from 0. A value of an epoch is written at the last step so far.
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
        """Return all series by name. The loss has one value per step, the others one per epoch."""
        history = self.history
        of_epochs = {"epoch_seconds": history.epoch_seconds, "wait_seconds": history.wait_seconds}
        return {"loss": history.losses, **of_epochs, **history.logged}


def judged(record: Run) -> list[Scalar]:
    """Return the final kNN and linear accuracies of a run, in percent, as values after its last step."""
    steps = len(record.training.losses) if record.training else 0
    return [Scalar(name, getattr(record.accuracy, name), steps) for name in ("knn_top1", "linear_top1")]


def package(name: Name) -> ModuleType:
    """Import and return a logger's package.

    Raises ImportError, with the command that installs it, if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"--log {name}: the package {name} is not installed: pip install {name}") from None


def _known_run(folder: Path) -> str | None:
    """Return the id of the run that was logged before, or None."""
    file = folder / "run"
    return file.read_text() if file.exists() else None


def _remember(folder: Path, run: str) -> None:
    """Keep the id of the run for `_known_run`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run").write_text(run)
