"""Two tables about the loader: its rates and its peers' (other libraries' loaders), and its requirements."""

import math
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd

from twoview.bench.dataloader.targets import REQUIREMENTS, Field, Requirement
from twoview.bench.evidence import ConvertRates, LoaderRates
from twoview.reports.cells import Column
from twoview.reports.leaderboard import commit_of
from twoview.reports.table import frame_of

TWOVIEW = "twoview"

# The labels of the record's fields that have a requirement.
LABELS: dict[Field, str] = {
    "images_per_s": "images/s",
    "first_batch_s": "time to first batch",
    "first_batch_empty_cache_s": "time to first batch, empty kernel cache",
    "peak_mib": "peak memory",
}
# The columns that identify a workload.
WORKLOAD = ["beton", "views", "size", "batch", "threads", "machine"]
# The columns of the table of rates; a contestant is twoview or a peer.
COLUMNS = [
    Column("beton", ".beton file", page=12, terminal=10, results=1),
    Column("views", "views", page=13, results=3),
    Column("size", "size (px)", 0, page=2, terminal=2, results=2),
    Column("batch", "batch", 0, page=14, results=4),
    Column("threads", "threads", 0, page=15, terminal=11),
    Column("machine", "machine"),
    Column("contestant", "loader", page=1, terminal=1, results=5),
    Column("images_per_s", "images/s", 1, page=3, terminal=3, results=6),
    Column("images_per_s_iqr", "images/s IQR", 1, page=4, terminal=5),
    Column("views_per_s", "views/s", 1, page=5, terminal=6),
    Column("ours_over_it", "twoview speedup over it", 2, page=6, terminal=4, results=7),
    Column("first_batch_s", "time to first batch (s)", 2, page=7, terminal=7, results=8),
    Column("first_batch_empty_cache_s", "time to first batch, empty kernel cache (s)", 1, page=8),
    Column("peak_mib", "peak memory (MiB)", 0, page=9, terminal=8, results=9),
    Column("added_mib", "memory beyond imports (MiB)", 0, page=10, terminal=9),
    Column("batch_mib", "one batch (MiB)", 1, page=11),
    Column("rounds", "rounds", 0, page=16),
    Column("images", "images", 0),
    Column("note", "note", page=17, terminal=12, results=10),
    Column("commit", "commit"),
    Column("environment", "environment"),
    Column("date", "date", page=18),
    Column("name", "record"),
]
# The columns of the table of requirements.
REQUIRED_COLUMNS = [
    Column("work", "workload", page=1, terminal=1, results=1),
    Column("metric", "metric", page=2, terminal=2, results=2),
    Column("measured", "measured", page=3, terminal=3, results=3),
    Column("required", "required", page=4, terminal=4, results=4),
    Column("met", "met", page=5, terminal=5, results=5),
    Column("machine", "machine"),
    Column("date", "date", page=6),
    Column("name", "record"),
]


def loader_table(records: Sequence[LoaderRates]) -> pd.DataFrame:
    """Return one row per record and contestant (twoview or a peer): twoview first, then the fastest.

    images_per_s, images_per_s_iqr: median and interquartile range over rounds (the range is NaN for one round).
    ours_over_it: twoview's rate divided by this contestant's, the median of the ratios of paired rounds; NaN if they
    have different numbers of rounds.
    A peer with a note and no rates was not installed; it has a row without numbers.
    """
    rows = [_row(record, contestant) for record in records for contestant in _contestants(record)]
    table = frame_of(rows, COLUMNS)
    table["peer"] = table["contestant"] != TWOVIEW
    order = [*WORKLOAD, "date", "name", "peer", "images_per_s", "contestant"]
    return table.sort_values(order, ascending=[True] * 9 + [False, True], ignore_index=True).drop(columns="peer")


def required_table(records: Sequence[LoaderRates | ConvertRates]) -> pd.DataFrame:
    """Return one row per machine and measured requirement: the latest figure, the bound, and whether it is met.

    A ratio to a peer has the unit x; for rates it is the median over paired rounds. A time has the unit s.
    """
    rows = []
    for machine in sorted({record.environment.machine for record in records}):
        mine = [record for record in records if record.environment.machine == machine]
        mine.sort(key=lambda record: record.created, reverse=True)
        for requirement in REQUIREMENTS:
            measured = [(record, _figure(record, requirement)) for record in mine if record.name == requirement.record]
            # The newest figure. `figure == figure` is false for NaN, which stands for a record without the figure.
            rows += [_required_row(record, requirement, figure) for record, figure in measured if figure == figure][:1]
    return frame_of(rows, REQUIRED_COLUMNS)


def latest(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the latest record of each workload."""
    newest = table.groupby(WORKLOAD, dropna=False)["date"].transform("max")
    return table[table["date"] == newest]


def _contestants(record: LoaderRates) -> list[str]:
    """Return the names of the measured loaders, then of the loaders that have only a note."""
    return [*record.images_per_s, *(name for name in record.notes if name not in record.images_per_s)]


def _row(record: LoaderRates, contestant: str) -> dict[str, Any]:
    """Return the row of one contestant of a record."""
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
        "ours_over_it": _paired_ratio(record.images_per_s.get(TWOVIEW, []), rates),
        "first_batch_s": record.first_batch_s.get(contestant, math.nan),
        "first_batch_empty_cache_s": _or_nan(record.first_batch_empty_cache_s if contestant == TWOVIEW else None),
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
    """Return the median over rounds of our rate divided by theirs; NaN if the rounds do not pair.

    Contestants take turns, so a disturbance affects both rates of a round; hence the ratio is taken before the median.
    """
    if not ours or len(ours) != len(theirs):
        return math.nan
    return float(np.median([our / their for our, their in zip(ours, theirs, strict=True)]))


def _or_nan(value: float | None) -> float:
    """Return the value, or NaN (an empty cell) for None."""
    return math.nan if value is None else value


def _figure(record: LoaderRates | ConvertRates, requirement: Requirement) -> float:
    """Return the measured value of a requirement; NaN if the record lacks it."""
    measured = getattr(record, requirement.field, None)  # a `ConvertRates` record has only rates
    by_contestant = measured if isinstance(measured, dict) else {TWOVIEW: measured}
    ours = by_contestant.get(TWOVIEW)
    if not requirement.against:
        return _or_nan(ours)
    return _paired_ratio(*map(_rounds, (ours, by_contestant.get(requirement.against))))


def _rounds(measured: list[float] | float | None) -> list[float]:
    """Return a number for each round: one number for a figure that is not measured in rounds, none if it is missing."""
    if isinstance(measured, list):
        return measured
    return [] if measured is None else [measured]


def _required_row(record: LoaderRates | ConvertRates, requirement: Requirement, figure: float) -> dict[str, Any]:
    """Return the row of a requirement. figure: the value that the record measured."""
    over, unit = (f", relative to {requirement.against}", "x") if requirement.against else ("", "s")
    return {
        "work": requirement.work,
        "metric": LABELS[requirement.field] + over,
        "measured": f"{figure:.2f} {unit}",
        "required": f"{'≥' if requirement.at_least else '≤'} {requirement.bound:g} {unit}",
        "met": "yes" if requirement.met(figure) else "no",
        "machine": record.environment.machine,
        "date": _date(record),
        "name": record.name,
    }


def _date(record: LoaderRates | ConvertRates) -> str:
    """Return the time, in UTC, when a record was made."""
    return record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
