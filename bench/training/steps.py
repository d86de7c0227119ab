"""Measure the steps of a trainer, on one batch that stays on the device (a resident batch) or on a loader's batches."""

import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from twoview.bench.config.recipe import Recipe, dataset_of
from twoview.bench.evidence import Figure
from twoview.bench.measurement.memory import MIB, PeakMemory
from twoview.loaders import masks
from twoview.loaders.loader import Loader
from twoview.methods.clock import StepClock
from twoview.methods.device_batches import DeviceBatch, on_device
from twoview.methods.trainer import Trainer

LEAD = 2  # batches before the clock starts, in which copies and rendering get ahead as in training


def resident_batch(one: Recipe, trainer: Trainer) -> DeviceBatch:
    """Return a batch of random pixels, labels and masks on the device, with the shapes of the recipe."""
    generator = torch.Generator().manual_seed(0)
    views = tuple(
        torch.randint(0, 256, (one.batch, view.size, view.size, 3), dtype=torch.uint8, generator=generator)
        .to(trainer.device)
        .permute(0, 3, 1, 2)
        for view in trainer.method.views
    )
    images = np.arange(one.batch)
    kept = tuple(torch.from_numpy(masks.draw(mask, images, 0, 0)).to(trainer.device) for mask in trainer.method.masks)
    classes = len(dataset_of(one).classes)
    label = torch.randint(0, classes, (one.batch,), generator=generator).to(trainer.device)
    return DeviceBatch(views, label, kept)


def stepped(trainer: Trainer, batch: DeviceBatch, warmup: int, steps: int) -> StepClock:
    """Run steps on one resident batch and return their clock.

    They run at the end of the learning rate schedule, where the weights hardly change.
    """
    clock = StepClock(trainer.device, warmup)
    for _ in range(warmup + steps):
        with clock.step():
            trainer.step(batch, trainer.epochs)
    clock.read()
    return clock


def loaded(trainer: Trainer, loader: Loader, epoch: int, steps: int) -> StepClock:
    """Run LEAD steps and then `steps` measured ones on the loader's batches, and return the clock.

    There is no wait in between, so that the loader gets no further ahead than in training.
    """
    clock = StepClock(trainer.device, LEAD)
    with loader.epoch(epoch) as source:
        for batch in islice(clock.batches(on_device(source, trainer.device)), LEAD + steps):
            with clock.step():
                trainer.step(batch, trainer.epochs)
    clock.read()
    return clock


def arrivals(loader: Loader, epoch: int, batches: int) -> float:
    """Return the wall seconds in which the loader makes `batches` batches, after LEAD others."""
    with loader.epoch(epoch) as source:
        times = [time.perf_counter() for _ in islice(source, LEAD + batches)]
    return times[-1] - times[LEAD - 1]


def now(device: torch.device) -> float:
    """Wait until the device has finished all work, and return time.perf_counter()."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peaks(memory: PeakMemory, work: str) -> Iterator[Figure]:
    """Yield the peaks of memory since `memory` was constructed: of the GPU if there is one, else of the host."""
    if memory.device_mib is None:
        yield Figure(work=work, quantity="peak_host_memory", samples=[memory.host_mib])
        return
    yield Figure(work=work, quantity="peak_device_memory", samples=[memory.device_mib * MIB / 2**30])
    reserved = (memory.device_reserved_mib or 0) * MIB / 2**30
    yield Figure(work=work, quantity="peak_device_memory_reserved", samples=[reserved])
