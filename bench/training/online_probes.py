"""Online probes, which run during training: kNN after some epochs, and the cost of all online probes."""

import time
from collections.abc import Callable

import torch

from twoview.bench.config.experiment import SUBSET_SEED, train_images
from twoview.bench.config.recipe import Recipe
from twoview.bench.evaluation.probing import in_turn
from twoview.bench.evidence import Training
from twoview.bench.runtime.progress import console
from twoview.loaders import presets
from twoview.loaders.beton import Beton
from twoview.loaders.samplers import subset
from twoview.methods import ranks
from twoview.methods.probes.features import extract
from twoview.methods.probes.knn import knn_top1
from twoview.methods.probes.online import Online
from twoview.methods.trainer import Trainer

REPEATS = 20  # timed steps of the online head
SHARE = 0.02  # share of the training time that online probes may take


def knn_watch(recipe: Recipe, trainer: Trainer, file: Beton, steps: int) -> Callable[[], None]:
    """Return a function to be called after every step, which runs a kNN probe after every N-th epoch.

    N is `probe.online_knn_epochs`. The probe uses training images only, never the test set. Its top-1 and the seconds
    that it took, which count as training time, go to the log of the trainer's history. steps: steps per epoch.
    """
    every, count = recipe.probe.online_knn_epochs, recipe.probe.online_knn_images
    if not every or ranks.rank() > 0:
        return lambda: None
    used = train_images(recipe, file.labels)
    used = used[subset(file.labels[used], min(len(used), count + count // 4), SUBSET_SEED)]
    (view,) = presets.preset("eval", recipe.size)
    done = len(trainer.history.losses)

    def watch() -> None:
        nonlocal done
        done += 1
        if done % (every * steps):
            return
        started = time.perf_counter()
        trainer.method.eval()
        with in_turn(file, used, view) as loader:
            x, label = extract(trainer.method.encode, loader, trainer.normalize, trainer.device, lambda: None)
        trainer.method.train()
        query = torch.arange(len(x)) % 5 == 0  # every fifth image is a query, the others are the bank
        k, temperature = recipe.probe.k, recipe.probe.temperature
        top1 = knn_top1(x[~query], label[~query], x[query], label[query], k=k, temperature=temperature)
        trainer.history.open_logged["online_knn_top1"] = [top1]
        trainer.history.open_logged["online_knn_seconds"] = [time.perf_counter() - started]

    return watch


def head_seconds(trainer: Trainer, batch: int) -> list[float]:
    """Measure the seconds of a step of the online head by itself, on random features of a batch.

    Returns one number per repeat; empty if there is no online head. The kernels are launched one by one, even if the
    training is compiled or recorded as a CUDA graph, so the time is not less than in training.
    """
    method = trainer.method
    if not isinstance(method, Online):
        return []
    features = torch.randn(batch, method.weight.shape[0], device=trainer.device)
    label = torch.zeros(batch, dtype=torch.int64, device=trainer.device)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        method.learn(features, label)["online_loss"].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return seconds


def warn(training: Training) -> None:
    """Print a warning if the online probes took more than the share SHARE of the training time."""
    if (share := training.online_share or 0.0) > SHARE:
        console.print(
            f"[yellow]the online probes took {share:.1%} of the training time, more than {SHARE:.0%}: run kNN less "
            "often (probe.online_knn_epochs) or on fewer images (probe.online_knn_images)"
        )
