"""The hours and memory that papers report, compared with our measurements: for `twoview budget` and the page.

A budget is a published row that states the cost of a workload: pretraining, or a linear or kNN evaluation.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

import pandas as pd

from twoview.bench.config import recipe
from twoview.bench.costs import projection as budget
from twoview.bench.costs.projection import Projection, Steps
from twoview.bench.evidence import AnyRecord, Probing, text_in
from twoview.loaders import datasets
from twoview.reports.cells import Column
from twoview.reports.papers import ABSENT, Row
from twoview.reports.table import frame_of

# What was measured: steps of a training run, steps of the model on a resident batch, or a probe from end to end.
TRAINING, ALONE, PROBE = "training", "the model alone", "the whole probe"
PROBES = {"knn": "knn", "linear": "end-to-end-lee2025"}  # workload of a budget -> our probe that does the same


class Published(Column):
    """A published number; an empty cell says that it was not published."""

    def text(self, row: pd.Series) -> str:
        return ABSENT if pd.isna(row[self.name]) else super().text(row)


class Projected(Column):
    """A projected number, with its interval if there is one."""

    @property
    def fields(self) -> tuple[str, ...]:
        return self.name, "projected_low", "projected_high"

    def text(self, row: pd.Series) -> str:
        hours, low, high = (self.written(row[field]) for field in self.fields)
        return hours if pd.isna(row["projected_low"]) else f"{hours} ({low} to {high})"


# The columns of the table. The terminal stacks the values in two cells: published values and our values.
COLUMNS = [
    Column("source", "source", page=1),
    Column("row", "table and row", page=2),
    Column("work", "workload"),
    Column("dataset", "dataset"),
    Column("backbone", "backbone"),
    Column("batch", "batch", 0),
    Column("epochs", "epochs", 0),
    Column("hardware", "published hardware", page=3),
    Published("published_hours", "published hours", 2, page=4, terminal=1),
    Published("published_gpu_hours", "published GPU-hours", 1, page=5, terminal=2),
    Published("published_memory_gb", "published memory per GPU (GB)", 1, page=6, terminal=3),
    Column("provenance", "provenance", page=7),
    Column("recipe", "recipe"),
    Column("device", "device", page=8),
    Column("measured", "measured", page=9),
    Column("measured_steps", "measured steps", 0, page=10, terminal=7),
    Column("step_ms", "step time (ms)", 1, page=11, terminal=8),
    Column("seconds_per_epoch", "epoch time (s)", 2, page=12, terminal=9),
    Projected("projected_hours", "hours with twoview", 2, page=13, terminal=4),
    Column("gpu_hours", "GPU-hours with twoview", 2, page=14, terminal=5),
    Column("gpu_hours_ratio", "ratio to published", 3, page=15, terminal=6),
    Column("views_per_s_gpu", "views/s per device", 1, page=16, terminal=10),
    Column("tflops", "TFLOP/s per device", 2, page=17, terminal=11),
    Column("mfu", "share of measured peak FLOP/s", 1, share=True, page=18, terminal=12),
    Column("kwh", "projected energy (kWh)", 3, page=19, terminal=13),
    Column("cost", "projected cost", 2, terminal=14),
    Column("memory_gib", "memory per device (GiB)", 2, page=20, terminal=15),
    Column("precision", "precision", page=21, terminal=16),
    Column("note", "note", page=23),
    Column("machine", "machine", page=22),
    Column("date", "date"),
    Column("name", "record", page=24),
]


def budget_table(
    published: Iterable[Row], records: Sequence[AnyRecord], price: float | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Return a row for each budget and each machine that measured the same work, and a sentence per unusable record.

    A budget that no machine measured has one row. A machine has one row for its latest training run, and one for its
    latest steps of the model alone. Steps count only if their recipe has the batch, views, size, method, backbone and
    optimizer of the budget's recipe; a training run counts only if it used the same data. Cells without a measurement
    are empty.
    price: price of a GPU-hour, for the column `cost`, which is empty without it.
    gpu_hours_ratio: our projected GPU-hours (on a CPU, our hours) divided by the published GPU-hours.
    """
    steps, complaints = [], []
    for record in sorted(records, key=lambda record: record.created):
        try:
            if found := budget.measured(record):
                steps.append((record, found))
        except ValueError as error:
            complaints.append(f"{record.name} fits no budget: {' '.join(str(error).split())}")
    probes = [record for record in sorted(records, key=lambda r: r.created) if isinstance(record, Probing)]
    rows = []
    for row in published:
        measured = (
            _of_same_training(row, steps, price) if row.work == "pretraining" else _of_same_probe(row, probes, price)
        )
        said = _said(row)
        rows += [{**said, **one} for one in measured] or [said]
    return frame_of(rows, COLUMNS), complaints


def _said(row: Row) -> dict[str, Any]:
    """Return the columns with the published values."""
    return {
        "source": row.paper,
        "row": f"{row.table}: {row.row}",
        "work": row.work,
        "dataset": row.dataset,
        "backbone": row.backbone,
        "batch": row.batch,
        "epochs": row.epochs,
        "hardware": f"{row.gpus} x {row.hardware}" if row.gpus and row.hardware else row.hardware,
        "published_hours": row.hours,
        "published_gpu_hours": row.gpu_hours,
        "published_memory_gb": row.memory_gb,
        "provenance": row.provenance,
        "recipe": row.recipe,
        "note": row.note,
    }


def _of_same_training(row: Row, steps: Sequence[tuple[AnyRecord, Steps]], price: float | None) -> list[dict[str, Any]]:
    """Return the measured columns for each machine and kind (a training run, or the model alone), from its latest
    record.
    """
    if row.recipe is None:
        return []
    one = recipe.load(row.recipe)
    latest: dict[tuple[str, str], tuple[AnyRecord, Steps]] = {}
    for record, found in steps:
        same_data = found.recipe.dataset == one.dataset or record.kind == "device"
        if same_data and budget.cost_of(found.recipe) == budget.cost_of(one):
            latest[found.machine, ALONE if found.idle is None else TRAINING] = record, found
    return [_of_steps(row, one, *latest[key], key[1], price) for key in sorted(latest)]


def _of_steps(
    row: Row, one: recipe.Recipe[Any], record: AnyRecord, found: Steps, kind: str, price: float | None
) -> dict[str, Any]:
    """Return the measured columns of a record's steps; if there are too few steps to project from, a note says so."""
    measured = _about(row, record, found.device, kind) | {"precision": found.precision, "memory_gib": found.memory_gib}
    try:
        projected = budget.projection(one, found.seconds, found.idle or 0.0)
    except ValueError as refused:
        return measured | {"measured_steps": len(found.seconds), "note": _joined(row.note, str(refused))}
    return measured | _projected(projected, found, one) | _spent(row, projected.hours, found.gpus, price)


def _about(row: Row, record: AnyRecord, device: str, kind: str) -> dict[str, Any]:
    """Return the columns about the measurement: device, machine, date, record, and the dataset if it differs."""
    source = getattr(record, "recipe", None) or {}
    other = source.get("dataset") if record.kind == "device" and source.get("dataset") != row.dataset else None
    return {
        "device": device,
        "measured": kind,
        "machine": record.environment.machine,
        "date": record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": record.name,
        "note": _joined(row.note, f"measured on {other}" if other and kind == TRAINING else ""),
    }


def _projected(projected: Projection, found: Steps, one: recipe.Recipe[Any]) -> dict[str, Any]:
    """Return the columns of a step, an epoch and the whole training run.

    projected: the projection from the measured steps `found` to the whole training run of the recipe `one`.
    """
    # `projected.seconds` is the time of a step with its wait for data, `own` the time without it; `idle` is the wait's
    # share.
    devices, own = max(1, found.gpus), projected.seconds * (1 - (found.idle or 0.0))
    return {
        "measured_steps": projected.measured,
        "step_ms": 1000 * own,
        "seconds_per_epoch": projected.seconds * budget.steps_an_epoch(one),
        "projected_hours": projected.hours,
        "projected_low": projected.low,
        "projected_high": projected.high,
        "views_per_s_gpu": found.views / projected.seconds / devices,
        "tflops": found.flops / own / devices / 1e12 if found.flops else None,
        "mfu": found.mfu,
        "kwh": found.joules * projected.steps / 3.6e6 if found.joules is not None else None,
    }


def _of_same_probe(row: Row, records: Sequence[Probing], price: float | None) -> list[dict[str, Any]]:
    """Return the measured columns of the latest probe of each machine that did the row's workload.

    Such a probe used all training images and has the dataset, size, backbone and epochs of the row.
    """
    if row.recipe is None:
        return []
    one = recipe.load(row.recipe)
    images = datasets.dataset(one.dataset).sizes["train"]
    wanted = PROBES[row.work], one.dataset, one.size, one.backbone.name, images
    latest = {}
    for record in records:
        backbone = text_in((record.recipe or {}).get("backbone"), "name")
        same = wanted == (record.probe, record.dataset, record.size, backbone, record.probed.train_images)
        if same and record.probed.settings.get("epochs") == row.epochs:
            latest[record.environment.machine] = record
    return [_of_probe(row, latest[machine], price) for machine in sorted(latest)]


def _of_probe(row: Row, record: Probing, price: float | None) -> dict[str, Any]:
    """Return the measured columns of a probe. It ran from end to end on one device, so nothing is projected."""
    found, gpu = record.probed, record.environment.gpu
    hours = (found.seconds + (found.features_seconds or 0.0)) / 3600
    mib = found.peak_device_mib if found.peak_device_mib is not None else found.peak_host_mib
    return {
        **_about(row, record, gpu or "CPU", PROBE),
        "projected_hours": hours,
        "memory_gib": mib / 1024,
        **_spent(row, hours, 1 if gpu else 0, price),
    }


def _spent(row: Row, hours: float, gpus: int, price: float | None) -> dict[str, Any]:
    """Return GPU-hours, their ratio to the published GPU-hours, and their cost. gpus: number of GPUs, 0 on a CPU."""
    gpu_hours = hours * gpus if gpus else None
    return {
        "gpu_hours": gpu_hours,
        "gpu_hours_ratio": (gpu_hours or hours) / row.gpu_hours if row.gpu_hours else None,
        "cost": gpu_hours * price if gpu_hours is not None and price is not None else None,
    }


def _joined(*notes: str) -> str:
    """Return the notes that are not empty as one text."""
    return "; ".join(note for note in notes if note)
