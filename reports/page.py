"""The web page: one file, nothing loaded from elsewhere, every value escaped by the template engine."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.evidence import AnyRecord, ConvertRates, DeviceFigures, LoaderRates, Run
from reports.cells import COLUMNS, Column, spread
from reports.figures import accuracy_plots, loader_plots, loss_plots
from reports.leaderboard import ACCURACIES, by_machine, commit_of
from reports.sentences import headline, stronger_pixels

# What is compared stands first, in the width of a phone. The machine is the table's caption, and the commit,
# the environment and the recipe stand with the run's details.
RUN_COLUMNS = [
    "method",
    "dataset",
    "rank",
    "knn_top1",
    "linear_top1",
    "knn_gain",
    "untrained_knn_top1",
    "untrained_linear_top1",
    "pixels_knn_top1",
    "pixels_linear_top1",
    "views_per_s",
    "seconds_per_epoch",
    "data_wait_share",
    "loader_views_per_s",
    "model_views_per_s",
    "efficiency",
    "bottleneck",
    "peak_memory_mib",
    "peak_device_mib",
    "backbone",
    "resolution",
    "epochs",
    "batch",
    "precision",
    "device",
    "seed",
    "date",
    "name",
]
SUMMARY_COLUMNS = [
    "method",
    "dataset",
    "seeds",
    "knn_top1",
    "untrained_knn_top1",
    "pixels_knn_top1",
    "knn_gain",
    "knn_gain_min",
    "linear_top1",
    "untrained_linear_top1",
    "pixels_linear_top1",
    "views_per_s",
    "seconds_per_epoch",
    "data_wait_share",
    "efficiency",
    "bottleneck",
    "peak_memory_mib",
    "backbone",
    "resolution",
    "epochs",
    "recipe",
]
LOADER_COLUMNS = [
    "contestant",
    "size",
    "images_per_s",
    "images_per_s_iqr",
    "views_per_s",
    "ours_over_it",
    "first_batch_s",
    "first_batch_empty_cache_s",
    "peak_mib",
    "added_mib",
    "batch_mib",
    "beton",
    "views",
    "batch",
    "threads",
    "rounds",
    "note",
    "date",
]
REQUIRED_COLUMNS = ["work", "figure", "measured", "required", "met", "date"]
GPU_COLUMNS = ["work", "figure", "measured", "quartiles", "target", "met", "published", "note", "date", "name"]


@dataclass(frozen=True)
class Cell:
    """What is read, and what it is sorted by."""

    text: str
    sort: str


@dataclass(frozen=True)
class Table:
    caption: str
    columns: list[Column]
    rows: list[list[Cell]]


def render(
    runs: Sequence[Run],
    rates: Sequence[LoaderRates],
    conversions: Sequence[ConvertRates],
    devices: Sequence[DeviceFigures],
    leaderboard: pd.DataFrame,
    summary: pd.DataFrame,
    loader: pd.DataFrame,
    required: pd.DataFrame,
    gpu: pd.DataFrame,
    complaints: Sequence[str],
) -> str:
    """The page as HTML. The same arguments give the same text; nothing of the moment or the place goes in."""
    templates = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("index.html.j2").render(
        headline=headline(summary, loader),
        stronger_pixels=stronger_pixels(summary),
        summary_tables=[_summary_table(machine, rows) for machine, rows in by_machine(summary)],
        run_tables=[_table(machine, rows, RUN_COLUMNS) for machine, rows in by_machine(leaderboard)],
        required_tables=[_table(machine, rows, REQUIRED_COLUMNS) for machine, rows in by_machine(required)],
        gpu_tables=[_table(machine, rows, GPU_COLUMNS) for machine, rows in by_machine(gpu)],
        loader_tables=[_table(machine, rows, LOADER_COLUMNS) for machine, rows in by_machine(loader)],
        accuracy_plots=accuracy_plots(summary),
        loader_plots=loader_plots(rates, loader),
        loss_plots=loss_plots(runs),
        environments=_environments([*runs, *rates, *conversions, *devices]),
        records=[_details(run) for run in sorted(runs, key=lambda run: run.name)],
        complaints=complaints,
    )


def _table(machine: str, frame: pd.DataFrame, names: list[str]) -> Table:
    columns = [COLUMNS[name] for name in names]
    rows = [[_cell(COLUMNS[name], row[name]) for name in names] for _, row in frame.iterrows()]
    return Table(machine, columns, rows)


def _summary_table(machine: str, frame: pd.DataFrame) -> Table:
    columns = [COLUMNS[name] for name in SUMMARY_COLUMNS]
    rows = [[_summary_cell(row, name) for name in SUMMARY_COLUMNS] for _, row in frame.iterrows()]
    return Table(machine, columns, rows)


def _summary_cell(row: pd.Series, name: str) -> Cell:
    if name in ACCURACIES:
        return Cell(spread(row, name), COLUMNS[name].csv(row[f"{name}_mean"]))
    return _cell(COLUMNS[name], row[name])


def _cell(column: Column, value: Any) -> Cell:
    return Cell(column.text(value), column.csv(value))


def _environments(records: Sequence[AnyRecord]) -> list[dict[str, Any]]:
    """Each environment once, with the commits it measured."""
    commits: dict[str, set[str]] = {}
    environments = {record.environment.hash: record.environment for record in records}
    for record in records:
        commits.setdefault(record.environment.hash, set()).add(commit_of(record.environment) or "no checkout")
    return [
        {"hash": hash_, "environment": environments[hash_], "commits": sorted(commits[hash_])}
        for hash_ in sorted(environments)
    ]


def _details(run: Run) -> dict[str, Any]:
    return {
        "run": run,
        "commit": commit_of(run.environment) or "no checkout",
        "source": run.recipe.get("source", "not stated"),
        "recipe": json.dumps(run.recipe, indent=2, sort_keys=True, ensure_ascii=False),
    }
