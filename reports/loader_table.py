"""Records of loader and writer -> rows: one row a record and contestant, and one row a requirement."""

import math
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd

from twoview.bench.dataloader.targets import REQUIREMENTS, Requirement
from twoview.bench.evidence import ConvertRates, LoaderRates
from twoview.reports.leaderboard import commit_of

OURS = "twoview"

# What has to be equal for two records to be measurements of the same work.
WORKLOAD = ["beton", "views", "size", "batch", "threads", "machine"]
COLUMNS = [
    *WORKLOAD,
    "contestant",
    "images_per_s",
    "images_per_s_iqr",
    "views_per_s",
    "ours_over_it",
    "first_batch_s",
    "first_batch_empty_cache_s",
    "peak_mib",
    "added_mib",
    "batch_mib",
    "rounds",
    "images",
    "note",
    "commit",
    "environment",
    "date",
    "name",
]
REQUIRED_COLUMNS = ["work", "figure", "measured", "required", "met", "machine", "date", "name"]


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
    return table.sort_values(order, ascending=[True] * 9 + [False, True], ignore_index=True)[COLUMNS]


def required_table(records: Sequence[LoaderRates | ConvertRates]) -> pd.DataFrame:
    """One row a machine and requirement that a record measures: the latest figure beside the bound, met or not.

    `figure` names the contestant that divides ours; x: times, for rates the median over paired rounds; s: seconds.
    """
    rows = []
    for machine in sorted({record.environment.machine for record in records}):
        mine = [record for record in records if record.environment.machine == machine]
        mine.sort(key=lambda record: record.created, reverse=True)
        for requirement in REQUIREMENTS:
            measured = [(record, _figure(record, requirement)) for record in mine if record.name == requirement.record]
            rows += [_required_row(record, requirement, figure) for record, figure in measured if figure == figure][:1]
    return pd.DataFrame(rows, columns=REQUIRED_COLUMNS)


def latest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the latest record of each workload."""
    newest = table.groupby(WORKLOAD, dropna=False)["date"].transform("max")
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
        "batch": _or_nan(record.batch),
        "threads": record.threads,
        "machine": record.environment.machine,
        "contestant": contestant,
        "images_per_s": median,
        "images_per_s_iqr": float(np.subtract(*np.quantile(rates, [0.75, 0.25]))) if len(rates) > 1 else math.nan,
        "views_per_s": median * record.views_per_image,
        "ours_over_it": _paired_ratio(record.images_per_s.get(OURS, []), rates),
        "first_batch_s": record.first_batch_s.get(contestant, math.nan),
        "first_batch_empty_cache_s": _or_nan(record.first_batch_empty_cache_s if contestant == OURS else None),
        "peak_mib": record.peak_mib.get(contestant, math.nan),
        "added_mib": record.added_mib.get(contestant, math.nan),
        "batch_mib": _or_nan(record.batch_mib),
        "rounds": len(rates),
        "images": record.images,
        "note": record.notes.get(contestant, ""),
        "commit": commit_of(record.environment),
        "environment": record.environment.hash,
        "date": _date(record),
        "name": record.name,
    }


def _paired_ratio(ours: list[float], theirs: list[float]) -> float:
    """Contestants take turns, so a round shares its disturbance; the ratio is taken before the median."""
    if not ours or len(ours) != len(theirs):
        return math.nan
    return float(np.median([our / their for our, their in zip(ours, theirs, strict=True)]))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _figure(record: LoaderRates | ConvertRates, requirement: Requirement) -> float:
    """The figure that the requirement bounds; NaN where the record lacks it."""
    if requirement.figure == "images/s":
        return _paired_ratio(record.images_per_s.get(OURS, []), record.images_per_s.get(requirement.against, []))
    if isinstance(record, ConvertRates):
        return math.nan
    if requirement.figure == "peak memory":
        return record.peak_mib.get(OURS, math.nan) / record.peak_mib.get(requirement.against, math.nan)
    if requirement.figure == "first batch":
        return record.first_batch_s.get(OURS, math.nan)
    return _or_nan(record.first_batch_empty_cache_s)


def _required_row(record: LoaderRates | ConvertRates, requirement: Requirement, figure: float) -> dict[str, Any]:
    at_least = requirement.figure == "images/s"
    over, unit = (f" / {requirement.against}", "x") if requirement.against else ("", "s")
    return {
        "work": requirement.work,
        "figure": requirement.figure + over,
        "measured": f"{figure:.2f} {unit}",
        "required": f"{'≥' if at_least else '≤'} {requirement.bound:g} {unit}",
        "met": "yes" if (figure >= requirement.bound if at_least else figure <= requirement.bound) else "no",
        "machine": record.environment.machine,
        "date": _date(record),
        "name": record.name,
    }


def _date(record: LoaderRates | ConvertRates) -> str:
    return record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
