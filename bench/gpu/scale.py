"""How much of everything the GPU suite does, and what its steps share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench import experiment, recipe
from bench.experiment import Place
from bench.recipe import Recipe
from methods import determinism
from methods.trainer import Compile, Trainer

HEADLINE = "lee2025-imagenet-simclr"  # ResNet-50 at 224, two views: of rates, methods and lightly's step
CIFAR = "gpu-cifar10-simclr"


class Skipped(Exception):
    """A step that cannot be done here; the reason in one sentence."""


@dataclass(frozen=True)
class Scale:
    """The sizes of all steps; the defaults are those of a card, and a test on a CPU takes smaller ones.

    compile: of the rates, of CIFAR-10 and beside lightly; the many single steps are as their recipes say, which is not
        compiled: that would take about a minute each.
    loss_batch, loss_dim: of the embeddings that every loss is checked on. pictures: images that views are checked on.
    batches: of the rates. rounds, warmup, steps: of each measurement, the steps of each round.
    step_batch: of the methods' steps and of lightly's. clocked_epochs: of CIFAR-10, behind the first, which compiles.
    judged_every: epochs between two kNN accuracies. goals: accuracies, in percent, whose time is wanted.
    jpegs: how many different ones are taken of an ImageNet that is there.
    settings: put in place of every recipe's; tables within tables, and only keys that a recipe has.
    """

    device: str = "cuda"
    compile: Compile = "default"
    loss_batch: int = 512
    loss_dim: int = 128
    pictures: int = 512
    batches: tuple[int, ...] = (256, 512)
    rounds: int = 3
    warmup: int = 5
    steps: int = 40  # a projection needs 30 steady ones
    step_batch: int = 256
    clocked_epochs: int = 4
    judged_every: int = 10
    goals: tuple[float, ...] = (80.0, 85.0, 90.0)
    jpegs: int = 10_000
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> torch.device:
        return torch.device(self.device)

    def recipe(self, name: str, changes: Mapping[str, Any] | None = None) -> Recipe[Any]:
        """The recipe of that name with changes, which may bring a method table of their own, then the settings.

        Its precision is the one that is taken here, so that a record says it.
        """
        values = recipe.load(name).model_dump(mode="json") | dict(changes or {})
        full = recipe.parse(values, name).model_dump(mode="json")  # with the defaults of the method that it has now
        one = recipe.parse(_put(full, self.settings), name)
        return one.model_copy(update={"precision": experiment.precision_for(one, self.where)})

    def trainer(self, one: Recipe[Any]) -> Trainer:
        """The recipe's trainer with fresh weights, on the device, whose kernels are chosen as training chooses them."""
        determinism.set_deterministic(one.deterministic)
        return Trainer(
            experiment.build_method(one),
            one.optim,
            epochs=one.epochs,
            normalise=experiment.normalise_for(one),
            device=self.where,
            precision=experiment.precision_for(one, self.where),
            compile=one.compile,
            cuda_graph=one.cuda_graph,
        )


@dataclass(frozen=True)
class Context:
    """What a step is given. folder: of the evidence so far. ends: of the suite, by time.monotonic()."""

    scale: Scale
    place: Place
    folder: Path
    ends: float


def _put(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for key in values.keys() & settings.keys():
        inner = isinstance(values[key], dict) and isinstance(settings[key], Mapping)
        result[key] = _put(values[key], settings[key]) if inner else settings[key]
    return result
