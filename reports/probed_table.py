"""The results of `twoview probe`: one row per encoder, dataset, probe and machine, from its latest record."""

import math
import statistics
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pandas as pd

from twoview.bench.evaluation.probing import BUDGETS
from twoview.bench.evidence import Probing
from twoview.reports.cells import Column
from twoview.reports.leaderboard import commit_of
from twoview.reports.table import frame_of

# The columns of the table; the published columns are the cost of the same probe in a paper.
COLUMNS = [
    Column("encoder", "encoder", page=1, terminal=1),
    Column("dataset", "dataset", page=2, terminal=2),
    Column("probe", "probe", page=3, terminal=3),
    Column("top1", "top-1 (%)", 2, page=4, terminal=4),
    Column("top1_low", "95 % CI low", 2, page=5, terminal=5),
    Column("top1_high", "95 % CI high", 2, page=6, terminal=6),
    Column("spread", "SD over splits", 2, page=7, terminal=9),
    Column("top5", "top-5 (%)", 2, page=8, terminal=10),
    Column("mean_class", "mean top-1 over classes (%)", 2, page=9, terminal=11),
    Column("worst_class", "worst class top-1 (%)", 2, page=10, terminal=12),
    Column("train_images", "probe train images", 0, page=11),
    Column("test_images", "probe test images", 0, page=12),
    Column("seconds", "time (s)", 2, page=13, terminal=7),
    Column("peak_memory_mib", "peak host memory (MiB)", 0, page=14, terminal=13),
    Column("peak_device_mib", "peak device memory (MiB)", 0, page=15, terminal=15),
    Column("published_hours", "published hours", 2, page=16, terminal=8),
    Column("published_memory_gb", "published memory per GPU (GB)", 1, page=17, terminal=14),
    Column("provenance", "provenance", page=18),
    Column("resolution", "size (px)", 0, page=19),
    Column("machine", "machine"),
    Column("commit", "commit"),
    Column("date", "date", page=20),
    Column("name", "record", page=21),
]


def probed_table(records: Sequence[Probing]) -> pd.DataFrame:
    """Return one row per encoder, dataset, probe and machine.

    top1_low, top1_high: bounds of top-1's 95 % interval.
    spread: standard deviation of top-1 over splits, NaN for one split.
    mean_class, worst_class: mean and minimum of the accuracies of the classes that have test images.
    seconds: time of the probe, including the extraction of features.
    published_hours, published_memory_gb: what a paper reports for that probe, with its own encoder and hardware.
    provenance: how reliable these numbers are.
    """
    newest = {(record.environment.machine, record.name): record for record in sorted(records, key=lambda r: r.created)}
    rows = [_row(record) for _, record in sorted(newest.items())]
    return frame_of(rows, COLUMNS).sort_values(["encoder", "dataset"], kind="stable", ignore_index=True)


def _row(record: Probing) -> dict[str, Any]:
    """Return the row of one record."""
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
    """Return the value, or NaN (an empty cell) for None."""
    return math.nan if value is None else value
