"""Steps of a trainer, measured: on a batch that lies on the device, or on what a loader brings."""

import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from twoview.bench.config.recipe import Recipe
from twoview.bench.evidence import Figure
from twoview.bench.measurement.memory import MIB, PeakMemory
from twoview.loaders import datasets, masks
from twoview.loaders.loader import Loader
from twoview.methods.clock import StepClock
from twoview.methods.device_batches import DeviceBatch, on_device
from twoview.methods.trainer import Trainer

LEAD = 2  # batches before the clock starts, with which copies and rendering run ahead


def resident_batch(one: Recipe, trainer: Trainer) -> DeviceBatch:
    """Random pixels, labels and masks of the recipe's shapes, on the device."""
    generator = torch.Generator().manual_seed(0)
    views = tuple(
        torch.randint(0, 256, (one.batch, view.size, view.size, 3), dtype=torch.uint8, generator=generator)
        .to(trainer.device)
        .permute(0, 3, 1, 2)
        for view in trainer.method.views
    )
    images = np.arange(one.batch)
    kept = tuple(torch.from_numpy(masks.draw(mask, images, 0, 0)).to(trainer.device) for mask in trainer.method.masks)
    classes = len(datasets.dataset(one.dataset).classes)
    label = torch.randint(0, classes, (one.batch,), generator=generator).to(trainer.device)
    return DeviceBatch(views, label, kept)


def stepped(trainer: Trainer, batch: DeviceBatch, warmup: int, steps: int) -> StepClock:
    """The clock of steps on one resident batch, at the end of the schedule, where the weights hardly move."""
    clock = StepClock(trainer.device, warmup)
    for _ in range(warmup + steps):
        with clock.step():
            trainer.step(batch, trainer.epochs)
    clock.read()
    return clock


def loaded(trainer: Trainer, loader: Loader, epoch: int, steps: int) -> StepClock:
    """The clock of so many steps on the loader's batches, behind LEAD others. Nobody waits between these and those, so
    that the loader gets no further ahead than it does in training.
    """
    clock = StepClock(trainer.device, LEAD)
    with loader.epoch(epoch) as source:
        for batch in islice(clock.batches(on_device(source, trainer.device)), LEAD + steps):
            with clock.step():
                trainer.step(batch, trainer.epochs)
    clock.read()
    return clock


def arrivals(loader: Loader, epoch: int, batches: int) -> float:
    """Wall seconds from the loader's LEADth batch to the one `batches` behind it."""
    with loader.epoch(epoch) as source:
        times = [time.perf_counter() for _ in islice(source, LEAD + batches)]
    return times[-1] - times[LEAD - 1]


def now(device: torch.device) -> float:
    """time.perf_counter() once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peaks(memory: PeakMemory, work: str) -> Iterator[Figure]:
    """Peaks since `memory` was made: of the device where there is one, else of the host."""
    if memory.device_mib is None:
        yield Figure(work=work, quantity="peak_host_memory", samples=[memory.host_mib])
        return
    yield Figure(work=work, quantity="peak_device_memory", samples=[memory.device_mib * MIB / 2**30])
    reserved = (memory.device_reserved_mib or 0) * MIB / 2**30
    yield Figure(work=work, quantity="peak_device_memory_reserved", samples=[reserved])
