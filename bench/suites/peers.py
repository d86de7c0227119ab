"""Measure twoview in turn with its peers, libraries that a user could choose instead, on this machine.

It compares loaders on the same data, and the training step of SimCLR.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from twoview.bench.config.experiment import Place, best_device
from twoview.bench.data import betons
from twoview.bench.dataloader import rates
from twoview.bench.dataloader.targets import CROPS, FASHION, SIMCLR, LoaderWork
from twoview.bench.evidence import DeviceFigures, LoaderRates
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.suites.gpu import with_lightly
from twoview.bench.suites.gpu.scale import Context, Scale
from twoview.loaders import datasets

PATIENCE = 300.0  # seconds that a peer may take to start, and for each round; the record notes which peers took longer
ALL = ("torchvision", "lightly", "kornia", "spdl", "dali", "ffcv")
# Each pass has sixteen batches, so that what a peer does at the start of a pass has little weight.
WORKS = (
    replace(SIMCLR, images=512, batch=32, peers=(*ALL, "decode")),
    replace(CROPS, images=512, batch=32, peers=(*ALL, "decode")),
    replace(FASHION, images=4096, peers=ALL),
)
# The training step that is measured on a GPU, made small enough for a CPU: ResNet-18 with views of 64 pixels.
ON_CPU = Scale("cpu", "off", step_batch=64, steps=1, settings={"all": {"size": 64, "backbone": {"name": "resnet18"}}})


def measure(
    place: Place, rounds: int, works: Sequence[LoaderWork] = WORKS, on_cpu: Scale = ON_CPU
) -> Iterator[LoaderRates | DeviceFigures]:
    """Yield one record for each task of the loader in `works`, then the record of the training step.

    rounds: number of rounds of each contestant. on_cpu: the scale of the step on a machine without a GPU. Raises
    ValueError if twoview's side fails.
    """
    for work in works:
        file = betons.dataset_beton(datasets.dataset(work.dataset), "train", place.betons, place.root)
        job = rates.job_for(file.path, work.views, work.size, cpu_count(), len(file), work.images, work.batch)
        yield rates.measure(job, work.peers, rounds, f"peers-{work.name}", patience=PATIENCE)
    scale = Scale() if best_device().type == "cuda" else on_cpu
    [step] = with_lightly.measure(Context(replace(scale, rounds=rounds), place, Path(), math.inf), PATIENCE)
    yield step.model_copy(update={"name": "peers-step"})


def text(records: Sequence[LoaderRates | DeviceFigures]) -> str:
    """Return the records as text for a reader, with one line per contestant."""
    lines: list[str] = []
    for record in records:
        if isinstance(record, LoaderRates):
            lines += [record.name, rates.text(rates.as_result(record))]
            continue
        lines.append(f"{record.name}: {record.figures[0].work}")
        for figure in record.figures:
            measured = f"{figure.median:10.4g} {figure.kind.unit}" if figure.samples else f"{'':10}"
            lines.append(f"{figure.name:40} {measured} {figure.note}".rstrip())
    return "\n".join(lines)
