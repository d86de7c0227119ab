"""How many threads load beside a model on the same processor: measured, since both want every core."""

import copy
import math
import time
from collections.abc import Generator
from contextlib import closing

import torch

from twoview.bench.config.progressive import Growing
from twoview.bench.runtime.progress import console
from twoview.loaders.loader import Batch, Loader
from twoview.methods.device_batches import on_device
from twoview.methods.trainer import Trainer

BATCHES = 3


def loading_threads(trainer: Trainer, loader: Loader | Growing, cores: int) -> int:
    """As many as keep up with the model, at least one; and says what was measured.

    loader: of one thread. A copy of the model is timed, on all cores, so that the trainer is as it was.
    """
    with closing(_batches(loader)) as batches:
        batch = next(on_device(batches, trainer.device))
        start = time.perf_counter()
        for _ in range(BATCHES):
            next(batches)
        load = (time.perf_counter() - start) / BATCHES
    objective = copy.deepcopy(trainer.objective)
    state, steps = torch.get_rng_state(), []
    for _ in range(BATCHES):
        start = time.perf_counter()
        objective(batch.views, batch.label, batch.masks)["loss"].backward()
        steps.append(time.perf_counter() - start)
    torch.set_rng_state(state)
    threads = min(max(math.ceil(load / min(steps)), 1), cores)
    console.print(
        f"{threads} of {cores} cores load: a batch takes one thread {1000 * load:.0f} ms and the model "
        f"{1000 * min(steps):.0f} ms"
    )
    return threads


def _batches(loader: Loader | Growing) -> Generator[Batch, None, None]:
    """Of the first epoch, over and over: it may be shorter than what is timed."""
    while True:
        with loader.epoch(0) as batches:
            yield from batches
