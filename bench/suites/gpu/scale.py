"""The sizes at which the GPU suite measures, and what its steps share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from twoview.bench.config import experiment, recipe
from twoview.bench.config.experiment import Place
from twoview.bench.config.recipe import Recipe
from twoview.methods import determinism
from twoview.methods.trainer import Compile, Trainer
from twoview.methods.vit import VITS

HEADLINE = "lee2025-imagenet-simclr"  # ResNet-50 at 224 pixels, two views: for rates, methods and lightly
CIFAR = "gpu-cifar10-simclr"


class Skipped(Exception):
    """Raised by a step that cannot be done on this machine; its message is the reason, in one sentence."""


@dataclass(frozen=True)
class Scale:
    """The sizes of all steps. The defaults are for a GPU; TINY tries every step on a CPU in a few minutes.

    compile: mode of torch.compile for the rates, for CIFAR-10 and for the comparison with lightly. The many single
        steps follow their recipes, which do not compile, because that would take about a minute each.
    loss_batch, loss_dim: shape of the embeddings on which every loss is checked. images: number of images on which
        views are checked.
    rounds, warmup, steps: their numbers in each measurement; `steps` is the number of steps in one round.
    step_batch: batch size of the methods' steps and of the comparison with lightly. clocked_epochs: number of epochs of
        CIFAR-10 that are timed after the first, which compiles.
    judged_at: shares of the CIFAR-10 training run at which kNN is measured. goals: kNN accuracies, in percent, for
        which the time to reach them is measured.
    jpegs: number of images taken from ImageNet, if the data root has it.
    settings: values that replace a recipe's own: first those under "all", then those under "vit" if the backbone is a
        ViT, then those under the recipe's name. Tables may be nested; keys that a recipe does not have are ignored.
    """

    device: str = "cuda"
    compile: Compile = "default"
    loss_batch: int = 512
    loss_dim: int = 128
    images: int = 512
    rounds: int = 2
    warmup: int = 5
    steps: int = 30  # the number that the projection to a whole training run needs
    step_batch: int = 256
    clocked_epochs: int = 4
    judged_at: tuple[float, ...] = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
    goals: tuple[float, ...] = (80.0, 85.0, 90.0)
    jpegs: int = 10_000
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def where(self) -> torch.device:
        """The torch device."""
        return torch.device(self.device)

    def recipe(self, name: str, parts: Mapping[str, Any] | None = None, **changes: Any) -> Recipe[Any]:
        """Return the recipe called `name` with some of its values replaced.

        parts: keys and whole tables to replace. The scale's settings are applied after them, and `changes` last. A
        precision of auto is replaced by the precision that is chosen on this device, so that a record states it.
        """
        values = recipe.load(name).model_dump(mode="json") | dict(parts or {})
        one = recipe.parse(values, name)  # fills in the defaults of the method that it now has
        values = one.model_dump(mode="json")
        for key in ("all", *(["vit"] if one.backbone.name in VITS else []), name):
            values = _put(values, self.settings.get(key, {}))
        one = recipe.parse(values | changes, name)
        return one.model_copy(update={"precision": experiment.precision_for(one, self.where)})

    def trainer(self, one: Recipe[Any]) -> Trainer:
        """Return the recipe's trainer with fresh weights on the device. Kernels are chosen as in training."""
        determinism.set_deterministic(one.deterministic)
        return experiment.trainer(one, self.where)


TINY = Scale(
    device="cpu",
    compile="off",
    loss_batch=16,
    loss_dim=8,
    images=8,
    warmup=1,
    steps=3,
    step_batch=4,
    clocked_epochs=2,
    judged_at=(0.5, 1.0),
    goals=(5.0, 100.0),
    jpegs=50,
    settings={
        "all": {
            "size": 16,
            "batch": 16,
            "precision": "fp32",
            "backbone": {"name": "resnet18"},  # the smallest that lightly's step can have, too
            "method": {"hidden": 16, "projection": 8, "queue": 16},
        },
        "vit": {
            "size": 28,
            "backbone": {"name": "vit-mini", "patch": 2},  # a patch that divides small views, too
            "method": {"layers": 2, "decoder_width": 16},
        },
        CIFAR: {
            "backbone": {"name": "resnet-small", "width": 8},
            "cuda_graph": False,
            "epochs": 6,
            "progressive": {"start": 8, "first_epoch": 2, "last_epoch": 4},
            "train_images": 500,
            "optim": {"warmup_epochs": 1},
            "probe": {"train_images": 500, "test_images": 200},
        },
    },
)
SCALES = {"full": Scale(), "tiny": TINY}


@dataclass(frozen=True)
class Context:
    """The arguments of a step. folder: folder of the records so far. ends: its deadline, by time.monotonic()."""

    scale: Scale
    place: Place
    folder: Path
    ends: float


def _put(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, replaced by the settings with the same keys, also within tables."""
    result = dict(values)
    for key in values.keys() & settings.keys():
        inner = isinstance(values[key], dict) and isinstance(settings[key], Mapping)
        result[key] = _put(values[key], settings[key]) if inner else settings[key]
    return result
