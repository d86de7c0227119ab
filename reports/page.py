"""The web page: one file, nothing loaded from elsewhere, every value escaped by the template engine."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twoview.bench.evidence import AnyRecord, ConvertRates, DeviceFigures, LoaderRates, ProbeCost, Probing, Run, Theory
from twoview.bench.runtime.escapes import on_lines
from twoview.reports.budget import text as budget_text
from twoview.reports.cells import COLUMNS, Column, between, bounded, spread
from twoview.reports.claims_table import tally
from twoview.reports.figures import accuracy_plots, difference_plots, loader_plots, loss_plots
from twoview.reports.imbalance import too_small
from twoview.reports.leaderboard import ACCURACIES, by_machine, commit_of
from twoview.reports.probe_table import COLUMNS as ALL_COSTS
from twoview.reports.probed_table import COLUMNS as ALL_PROBED
from twoview.reports.reconstructions import Picture
from twoview.reports.sentences import headline, stronger_pixels
from twoview.reports.significance import DIFFERENCES, TARGETS_IN_WORDS
from twoview.reports.theory import claim_rows
from twoview.reports.training_figures import training_plots

# What is compared stands first, in the width of a phone. The machine is the table's caption.
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
    "views_per_s_iqr",
    "seconds_per_epoch",
    "seconds_to_target",
    "data_wait_share",
    "loader_views_per_s",
    "model_views_per_s",
    "efficiency",
    "bottleneck",
    "peak_memory_mib",
    "peak_device_mib",
    "published",
    "within_spread",
    "backbone",
    "resolution",
    "views",
    "epochs",
    "batch",
    "precision",
    "loader",
    "device",
    "seed",
    "commit",
    "environment",
    "date",
    "name",
]
SUMMARY_COLUMNS = [
    "method",
    "dataset",
    "seeds",
    "knn_top1",
    "knn_interval",
    "knn_p",
    "knn_gain",
    "knn_gain_min",
    "untrained_knn_top1",
    "pixels_knn_top1",
    "linear_top1",
    "linear_interval",
    "untrained_linear_top1",
    "pixels_linear_top1",
    "published",
    "within_spread",
    "seconds_to_target",
    "time_p",
    "views_per_s",
    "seconds_per_epoch",
    "data_wait_share",
    "efficiency",
    "bottleneck",
    "peak_memory_mib",
    "peak_device_mib",
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
IMBALANCE_COLUMNS = [
    "method",
    "comparison",
    "dataset",
    "seeds",
    "paper",
    "knn_difference",
    "knn_verdict",
    "linear_difference",
    "linear_verdict",
    "backbone",
    "epochs",
    "images_seen",
]
VARIANT_COLUMNS = [
    "recipe",
    "changes",
    "dataset",
    "knn_top1",
    "knn_difference",
    "knn_verdict",
    "linear_top1",
    "linear_difference",
    "linear_verdict",
    "seeds",
    "epochs",
    "training_s",
]
BUDGET_COLUMNS = [
    "source",
    "row",
    "hardware",
    "published_hours",
    "published_gpu_hours",
    "published_memory_gb",
    "provenance",
    "device",
    "measured",
    "measured_steps",
    "step_ms",
    "seconds_per_epoch",
    "projected_hours",
    "gpu_hours",
    "gpu_hours_ratio",
    "views_per_s_gpu",
    "tflops",
    "mfu",
    "kwh",
    "memory_gib",
    "precision",
    "machine",
    "note",
    "name",
]
CLAIM_COLUMNS = [
    "source",
    "verdict",
    "claim",
    "effect",
    "p",
    "of",
    "published_effect",
    "statistic",
    "provenance",
    "dataset",
    "machine",
    "note",
]
COST_COLUMNS = [name for name in ALL_COSTS if name not in ("machine", "commit")]
PROBED_COLUMNS = [name for name in ALL_PROBED if name not in ("machine", "commit")]
LONG = 44  # characters
GPU_COLUMNS = ["work", "figure", "measured", "quartiles", "target", "met", "published", "note", "date", "name"]


@dataclass(frozen=True)
class Cell:
    """What is read, and what it is sorted by."""

    text: str
    sort: str

    @property
    def long(self) -> bool:
        """Whether it is folded rather than read at one go."""
        return len(self.text) > LONG


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
    probings: Sequence[Probing],
    costs: Sequence[ProbeCost],
    leaderboard: pd.DataFrame,
    summary: pd.DataFrame,
    loader: pd.DataFrame,
    required: pd.DataFrame,
    gpu: pd.DataFrame,
    imbalance: pd.DataFrame,
    variants: pd.DataFrame,
    budget: pd.DataFrame,
    probed: pd.DataFrame,
    probe_costs: pd.DataFrame,
    claims: pd.DataFrame,
    theories: Sequence[Theory],
    pictures: Sequence[Picture],
    complaints: Sequence[str],
) -> str:
    """The page as HTML. The same arguments give the same text; nothing of the moment or the place goes in."""
    templates = Environment(
        loader=PackageLoader("twoview.reports"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("index.html.j2").render(
        headline=headline(summary, loader),
        stronger_pixels=stronger_pixels(summary),
        summary_tables=[_table(machine, rows, SUMMARY_COLUMNS, _summary_cell) for machine, rows in by_machine(summary)],
        imbalance_tables=[
            _table(machine, rows, IMBALANCE_COLUMNS, _compared_cell) for machine, rows in by_machine(imbalance)
        ],
        too_small=too_small(imbalance),
        variant_tables=[
            _table(machine, rows, VARIANT_COLUMNS, _compared_cell) for machine, rows in by_machine(variants)
        ],
        run_tables=[_table(machine, rows, RUN_COLUMNS, _run_cell) for machine, rows in by_machine(leaderboard)],
        tally=tally(claims),
        paper_claims=_table("The four papers", claims, CLAIM_COLUMNS, _claim_cell),
        probe_cost_tables=[_table(machine, rows, COST_COLUMNS) for machine, rows in by_machine(probe_costs)],
        probed_tables=[_table(machine, rows, PROBED_COLUMNS) for machine, rows in by_machine(probed)],
        required_tables=[_table(machine, rows, REQUIRED_COLUMNS) for machine, rows in by_machine(required)],
        gpu_tables=[_table(machine, rows, GPU_COLUMNS) for machine, rows in by_machine(gpu)],
        budget_tables=[
            _table(caption, rows, BUDGET_COLUMNS, _budget_cell)
            for caption, rows in (
                ("Done by a recipe of twoview", budget[budget.recipe.notna()]),
                ("By no recipe yet", budget[budget.recipe.isna()]),
            )
        ],
        loader_tables=[_table(machine, rows, LOADER_COLUMNS) for machine, rows in by_machine(loader)],
        accuracy_plots=accuracy_plots(summary),
        difference_plots=difference_plots(imbalance),
        loader_plots=loader_plots(rates, loader),
        loss_plots=loss_plots(runs),
        training_plots=training_plots(runs, summary, devices),
        targets=TARGETS_IN_WORDS,
        claims=claim_rows(theories),
        pictures=pictures,
        environments=_environments([*runs, *rates, *conversions, *devices, *probings, *costs, *theories]),
        records=[_details(run) for run in sorted(runs, key=lambda run: run.name)],
        complaints=complaints,
    )


def _visible(value: Any) -> Any:
    """Of a text, what no page shows, such as what turns the direction of its letters, is written out; no-break spaces
    are the template's own.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\u00a0".join(map(on_lines, value.split("\u00a0")))


def _cell(row: pd.Series, name: str) -> Cell:
    return Cell(COLUMNS[name].text(row[name]), COLUMNS[name].csv(row[name]))


def _run_cell(row: pd.Series, name: str) -> Cell:
    """An accuracy with the interval of its probe, where the record has it."""
    plain = _cell(row, name)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return plain if low is None or pd.isna(low) else Cell(f"{plain.text} ({low:.2f} to {high:.2f})", plain.sort)


def _summary_cell(row: pd.Series, name: str) -> Cell:
    if name in ACCURACIES:
        return Cell(spread(row, name), COLUMNS[name].csv(row[f"{name}_mean"]))
    if f"{name}_low" in row:
        return Cell(between(row, name), COLUMNS[name].csv(row[f"{name}_low"]))
    return _cell(row, name)


def _compared_cell(row: pd.Series, name: str) -> Cell:
    if name in DIFFERENCES:
        return Cell(bounded(row, name), COLUMNS[name].csv(row[name]))
    return _summary_cell(row, name)


def _claim_cell(row: pd.Series, name: str) -> Cell:
    return Cell(bounded(row, name), COLUMNS[name].csv(row[name])) if name == "effect" else _cell(row, name)


def _budget_cell(row: pd.Series, name: str) -> Cell:
    return Cell(budget_text(row, name), COLUMNS[name].csv(row[name]))


def _table(
    machine: str, frame: pd.DataFrame, names: list[str], cell: Callable[[pd.Series, str], Cell] = _cell
) -> Table:
    columns = [COLUMNS[name] for name in names]
    rows = [[cell(row, name) for name in names] for _, row in frame.iterrows()]
    return Table(machine, columns, rows)


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
