"""The papers' budgets beside what was measured: `twoview budget`, and a part of the page."""

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

import pandas as pd

from twoview.bench.config import recipe
from twoview.bench.costs import projection as budget
from twoview.bench.costs.projection import Projection, Steps
from twoview.bench.evidence import AnyRecord, Probing, text_in
from twoview.loaders import datasets
from twoview.reports.cells import COLUMNS as CELLS
from twoview.reports.papers import ABSENT, Row

TRAINING, ALONE, PROBE = "training", "the model alone", "the whole probe"
PROBES = {"knn": "knn", "linear": "end-to-end-lee2025"}  # a budget's work -> the probe of ours that does it
COLUMNS = [
    "source",
    "row",
    "work",
    "dataset",
    "backbone",
    "batch",
    "epochs",
    "hardware",
    "published_hours",
    "published_gpu_hours",
    "published_memory_gb",
    "provenance",
    "recipe",
    "device",
    "measured",
    "measured_steps",
    "step_ms",
    "seconds_per_epoch",
    "projected_hours",
    "projected_low",
    "projected_high",
    "gpu_hours",
    "gpu_hours_ratio",
    "views_per_s_gpu",
    "tflops",
    "mfu",
    "kwh",
    "cost",
    "memory_gib",
    "precision",
    "note",
    "machine",
    "date",
    "name",
]


def budget_table(
    published: Iterable[Row], records: Sequence[AnyRecord], price: float | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """A row for each budget and each machine that measured the same work, and one sentence for each record left out.

    Of a machine the latest training stands beside the latest steps of the model alone. A step counts only if it was of
    the recipe that does what the row says: batch, views, size, method, backbone and optimiser; training on other data
    does not count either. What was not measured is empty, as is `cost` without a price, which is of a GPU-hour.
    gpu_hours_ratio: the projected GPU-hours over the published ones; of a processor its hours over them.
    """
    steps, complaints = [], []
    for record in sorted(records, key=lambda record: record.created):
        try:
            if found := budget.measured(record):
                steps.append((record, found))
        except ValueError as error:
            complaints.append(f"{record.name} is of no budget: {' '.join(str(error).split())}")
    probes = [record for record in sorted(records, key=lambda r: r.created) if isinstance(record, Probing)]
    rows = []
    for row in published:
        beside = _steps_beside(row, steps, price) if row.work == "pretraining" else _probes_beside(row, probes, price)
        said = _said(row)
        rows += [{**said, **one} for one in beside] or [said]
    return pd.DataFrame(rows, columns=COLUMNS), complaints


def _said(row: Row) -> dict[str, Any]:
    """What the source says."""
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


def _steps_beside(row: Row, steps: Sequence[tuple[AnyRecord, Steps]], price: float | None) -> list[dict[str, Any]]:
    """The measured columns of the latest of each machine and kind that are of the row's recipe."""
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
    measured = _about(row, record, found.device, kind) | {"precision": found.precision, "memory_gib": found.memory_gib}
    try:
        projected = budget.projection(one, found.seconds, found.idle or 0.0)
    except ValueError as refused:
        return measured | {"measured_steps": len(found.seconds), "note": _joined(row.note, str(refused))}
    return measured | _projected(projected, found, one) | _spent(row, projected.hours, found.gpus, price)


def _about(row: Row, record: AnyRecord, device: str, kind: str) -> dict[str, Any]:
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
    """Of a step, an epoch and the whole."""
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


def _probes_beside(row: Row, records: Sequence[Probing], price: float | None) -> list[dict[str, Any]]:
    """The latest probe of each machine that did the row's work, whole, on all images and with the row's backbone."""
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
    """Measured from end to end, nothing projected; the probes run on one device."""
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
    gpu_hours = hours * gpus if gpus else None
    return {
        "gpu_hours": gpu_hours,
        "gpu_hours_ratio": (gpu_hours or hours) / row.gpu_hours if row.gpu_hours else None,
        "cost": gpu_hours * price if gpu_hours is not None and price is not None else None,
    }


def text(row: pd.Series, name: str) -> str:
    """A cell for a reader: what was not published says so, and a projection has its interval."""
    if name.startswith("published_") and pd.isna(row[name]):
        return ABSENT
    if name == "projected_hours" and pd.notna(row["projected_low"]):
        low, high = (CELLS[name].text(row[bound]) for bound in ("projected_low", "projected_high"))
        return f"{CELLS[name].text(row[name])} ({low} to {high})"
    return CELLS[name].text(row[name])


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
