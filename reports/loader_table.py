"""Loader records -> rows: one row a record and contestant."""

import math
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd

from bench.evidence import LoaderRates
from reports.leaderboard import commit_of

OURS = "twoview"

# What has to be equal for two records to be measurements of the same work.
WORKLOAD = ["beton", "views", "size", "threads", "machine"]
COLUMNS = [
    *WORKLOAD,
    "contestant",
    "images_per_s",
    "images_per_s_iqr",
    "views_per_s",
    "ours_over_it",
    "first_batch_s",
    "rounds",
    "images",
    "note",
    "commit",
    "environment",
    "date",
    "name",
]


def loader_table(records: Sequence[LoaderRates]) -> pd.DataFrame:
    """One row a record and contestant, ours first and then the fastest, rates in images and views a second.

    `images_per_s` is the median over rounds, `images_per_s_iqr` the interquartile range (NaN for one round),
    `ours_over_it` the median of the ratios of paired rounds, ours over this contestant's (NaN where the rounds do not
    pair). A contestant that has a note and no rates is kept, without numbers: it was absent, not slow.
    """
    rows = [_row(record, contestant) for record in records for contestant in _contestants(record)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["peer"] = table["contestant"] != OURS
    order = [*WORKLOAD, "date", "name", "peer", "images_per_s", "contestant"]
    return table.sort_values(order, ascending=[True] * 8 + [False, True], ignore_index=True)[COLUMNS]


def latest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the latest record of each workload."""
    newest = table.groupby(WORKLOAD)["date"].transform("max")
    return table[table["date"] == newest]


def _contestants(record: LoaderRates) -> list[str]:
    return [*record.images_per_s, *(name for name in record.notes if name not in record.images_per_s)]


def _row(record: LoaderRates, contestant: str) -> dict[str, Any]:
    rates = record.images_per_s.get(contestant, [])
    median = float(np.median(rates)) if rates else math.nan
    return {
        "beton": record.beton,
        "views": record.views,
        "size": record.size,
        "threads": record.threads,
        "machine": record.environment.machine,
        "contestant": contestant,
        "images_per_s": median,
        "images_per_s_iqr": float(np.subtract(*np.quantile(rates, [0.75, 0.25]))) if len(rates) > 1 else math.nan,
        "views_per_s": median * record.views_per_image,
        "ours_over_it": _paired_ratio(record.images_per_s.get(OURS, []), rates),
        "first_batch_s": record.first_batch_s.get(contestant, math.nan),
        "rounds": len(rates),
        "images": record.images,
        "note": record.notes.get(contestant, ""),
        "commit": commit_of(record.environment),
        "environment": record.environment.hash,
        "date": record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": record.name,
    }


def _paired_ratio(ours: list[float], theirs: list[float]) -> float:
    """Contestants take turns, so a round shares its disturbance; the ratio is taken before the median."""
    if not ours or len(ours) != len(theirs):
        return math.nan
    return float(np.median([our / their for our, their in zip(ours, theirs, strict=True)]))
