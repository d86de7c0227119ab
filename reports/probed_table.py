"""Records of probes -> rows: one row an encoder, dataset and probe, the latest record of it on each machine."""

import math
import statistics
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pandas as pd

from twoview.bench.evaluation.probing import BUDGETS
from twoview.bench.evidence import Probing
from twoview.reports.leaderboard import commit_of

COLUMNS = [
    "encoder",
    "dataset",
    "probe",
    "top1",
    "top1_low",
    "top1_high",
    "spread",
    "top5",
    "mean_class",
    "worst_class",
    "train_images",
    "test_images",
    "seconds",
    "peak_memory_mib",
    "peak_device_mib",
    "published_hours",
    "published_memory_gb",
    "provenance",
    "resolution",
    "machine",
    "commit",
    "date",
    "name",
]


def probed_table(records: Sequence[Probing]) -> pd.DataFrame:
    """top1_low, top1_high: bounds of its 95 % interval. spread: its standard deviation over splits, NaN for one split.

    mean_class, worst_class: of the accuracies of the classes that have test images. seconds: with the features'.
    published_hours, published_memory_gb: what a paper spent on that probe, wherever it did, and `provenance` says that.
    """
    newest = {(record.environment.machine, record.name): record for record in sorted(records, key=lambda r: r.created)}
    rows = [_row(record) for _, record in sorted(newest.items())]
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["encoder", "dataset"], kind="stable", ignore_index=True)


def _row(record: Probing) -> dict[str, Any]:
    found, budget = record.probed, BUDGETS.get(record.probe)
    classes = [accuracy for accuracy in found.per_class if accuracy is not None] or [math.nan]
    return {
        "encoder": record.encoder,
        "dataset": record.dataset,
        "probe": record.probe,
        "top1": found.top1,
        "top1_low": found.interval[0],
        "top1_high": found.interval[1],
        "spread": _or_nan(found.spread),
        "top5": _or_nan(found.top5),
        "mean_class": statistics.mean(classes),
        "worst_class": min(classes),
        "train_images": found.train_images,
        "test_images": found.test_images,
        "seconds": found.seconds + (found.features_seconds or 0.0),
        "peak_memory_mib": found.peak_host_mib,
        "peak_device_mib": _or_nan(found.peak_device_mib),
        "published_hours": _or_nan(budget.hours if budget else None),
        "published_memory_gb": _or_nan(budget.memory_gib if budget else None),
        "provenance": budget.provenance if budget else "",
        "resolution": record.size,
        "machine": record.environment.machine,
        "commit": commit_of(record.environment),
        "date": record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": record.name,
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
