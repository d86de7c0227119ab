"""Measure how many threads should load data while a model trains on the same CPU, since both could use every core."""

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

BATCHES = 3  # batches that are timed


def loading_threads(trainer: Trainer, loader: Loader | Growing, cores: int) -> int:
    """Return how many loader threads keep up with the model, at least one, and print the timings.

    loader: a loader with one thread. cores: the largest number to return. A copy of the model is timed, on all cores,
    so that the trainer is left as it was.
    """
    with closing(_batches(loader)) as batches:
        batch = next(on_device(batches, trainer.device))
        start = time.perf_counter()
        for _ in range(BATCHES):
            next(batches)
        load = (time.perf_counter() - start) / BATCHES
    objective = copy.deepcopy(trainer.objective)
    # The generator is put back afterwards, since the timed steps may draw from it.
    state, steps = torch.get_rng_state(), []
    for _ in range(BATCHES):
        start = time.perf_counter()
        objective(batch.views, batch.label, batch.masks)["loss"].backward()
        steps.append(time.perf_counter() - start)
    torch.set_rng_state(state)
    # The threads that load a batch in the time that the model needs for one.
    threads = min(max(math.ceil(load / min(steps)), 1), cores)
    console.print(
        f"{threads} of {cores} cores load data: one thread loads a batch in {1000 * load:.0f} ms, and the model takes "
        f"{1000 * min(steps):.0f} ms"
    )
    return threads


def _batches(loader: Loader | Growing) -> Generator[Batch, None, None]:
    """Yield the batches of the first epoch again and again, since an epoch may have fewer than are timed."""
    while True:
        with loader.epoch(0) as batches:
            yield from batches
