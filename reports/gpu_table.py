"""The figures that `suite gpu` and `measure peers` measured on a device, one row each, with their targets."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd

from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.suites.gpu.targets import CARD, Target, target
from twoview.reports.cells import Column
from twoview.reports.labels import label
from twoview.reports.table import frame_of

# The columns of the table. The docs' page of results shows figures with a target (`results`), and peers
# (`results_more`).
COLUMNS = [
    Column("work", "workload", page=1, terminal=1, results=1, results_more=1),
    Column("metric", "metric", page=2, terminal=2, results=2, results_more=2),
    Column("measured", "measured", page=3, terminal=3, results=3, results_more=3),
    Column("quartiles", "quartiles", page=4, terminal=6, results=4, results_more=4),
    Column("target", "target", page=5, terminal=4, results=5),
    Column("met", "met", page=6, terminal=5),
    Column("published", "published", page=7, terminal=7, results=6),
    Column("note", "note", page=8, terminal=8, results=7, results_more=5),
    Column("machine", "machine"),
    Column("date", "date", page=9),
    Column("name", "record", page=10),
]


def gpu_table(records: Sequence[DeviceFigures]) -> pd.DataFrame:
    """Return one row per figure, in the order of measurement. A figure is a measured quantity with all its samples.

    For a step that was measured several times, the latest complete record is shown.
    measured: the median of the samples in their unit, or the last value of a quantity that is tracked over time.
    quartiles: the first and third quartile. Both columns are empty if nothing was measured or an accuracy was never
    reached. target: what one H100 should reach, or the tolerance of a check.
    met: whether the target is met; empty if the target is for another card.
    A step that stopped early has a last row with the figure `stopped`, whose note says why.
    """
    rows: list[dict[str, Any]] = []
    for record in _latest(records):
        rows += [_row(record, figure) for figure in record.figures]
        if record.stopped:
            rows.append(_stopped(record))
    return frame_of(rows, COLUMNS)


def target_table(records: Sequence[DeviceFigures]) -> pd.DataFrame:
    """Return the rows of `gpu_table` whose figure has a target."""
    rows = [
        _row(record, figure)
        for record in _latest(records)
        for figure in record.figures
        if target(record.name, figure) is not None
    ]
    return frame_of(rows, COLUMNS)


def _latest(records: Sequence[DeviceFigures]) -> list[DeviceFigures]:
    """Return the latest record of each machine and step, a complete one if possible, in the order of measurement."""
    # Stopped records come before complete records, and older before newer: the last record of a key is kept.
    by_worth = sorted(records, key=lambda r: (not r.stopped, r.created))
    latest = {(record.environment.machine, record.name): record for record in by_worth}
    return sorted(latest.values(), key=lambda r: (r.environment.machine, r.created))


def _stopped(record: DeviceFigures) -> dict[str, Any]:
    """Return the row that says why a step stopped early."""
    empty = dict.fromkeys(("measured", "quartiles", "target", "met", "published"), "")
    return {"work": record.name, "metric": "stopped", **empty, "note": record.stopped, **_about(record)}


def _row(record: DeviceFigures, figure: Figure) -> dict[str, Any]:
    """Return the row of one figure of a record."""
    aim = target(record.name, figure)
    return {
        "work": figure.work,
        "metric": label(figure),
        "measured": _measured(figure),
        "quartiles": _quartiles(figure),
        "target": _aimed(aim, figure),
        "met": _met(aim, figure, record),
        "published": aim.published if aim else "",
        "note": figure.note,
        **_about(record),
    }


def _about(record: DeviceFigures) -> dict[str, str]:
    """Return the cells that all rows of a record share."""
    return {
        "machine": record.environment.machine,
        "date": record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": record.name,
    }


def _measured(figure: Figure) -> str:
    """Return the figure's value with its unit: the last sample if it is tracked over time, else the median."""
    if not figure.samples:
        return ""
    return _value(figure.samples[-1] if figure.kind.course else figure.median, figure.kind.unit)


def _value(value: float, unit: str) -> str:
    """Return a number with its unit, without decimals from 1000 on, else with four significant digits."""
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.4g} {unit}"


def _quartiles(figure: Figure) -> str:
    """Return the first and third quartile; empty for a single sample and for a quantity that is tracked over time."""
    if len(figure.samples) < 2 or figure.kind.course:
        return ""
    low, high = np.quantile(figure.samples, [0.25, 0.75])
    return f"{_value(low, '').strip()} to {_value(high, '').strip()}"


def _aimed(aim: Target | None, figure: Figure) -> str:
    """Return the figure's target, or the tolerance of a check, in words; empty if it has neither."""
    if aim:
        return f"{'≥' if aim.at_least else '≤'} {_value(aim.bound, figure.kind.unit)} on one {CARD}"
    return f"≤ {_value(figure.tolerance, figure.kind.unit)}" if figure.tolerance is not None else ""


def _met(aim: Target | None, figure: Figure, record: DeviceFigures) -> str:
    """Return "yes" or "no": whether the figure meets its target or tolerance.

    It is empty if there is no target, if the target is for another card, if the check was not run, or if the training
    run ended before the target's time.
    """
    if figure.tolerance is not None:
        return ("no" if figure.off else "yes") if figure.samples else ""
    if aim is None or CARD not in (record.environment.gpu or ""):
        return ""
    if not figure.samples:
        elapsed = [other.samples for other in record.figures if other.quantity == "elapsed_time"]
        trained = [samples[-1] / 60 for samples in elapsed if samples]
        return "no" if trained and trained[0] >= aim.bound else ""
    return "yes" if aim.met(figure.median) else "no"
