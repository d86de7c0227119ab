"""The tables on a terminal. Where it is narrow, the columns that matter least are left out; the CSV has them all."""

from collections.abc import Callable

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from twoview.bench.runtime.escapes import on_lines, one_line
from twoview.reports.budget import text as budget_text
from twoview.reports.cells import COLUMNS, bounded, spread
from twoview.reports.claims_table import NOT_MEASURED
from twoview.reports.imbalance import too_small
from twoview.reports.leaderboard import ACCURACIES, by_machine
from twoview.reports.report import Report
from twoview.reports.sentences import headline, stronger_pixels
from twoview.reports.significance import DIFFERENCES

# What a row cannot do without comes first, in the order of reading; the rest follows, the dearest first.
RUN_COLUMNS = [
    "rank",
    "method",
    "dataset",
    "knn_top1",
    "knn_gain",
    "linear_top1",
    "seed",
    "views_per_s",
    "seconds_per_epoch",
    "efficiency",
    "peak_memory_mib",
    "pixels_knn_top1",
    "untrained_knn_top1",
    "bottleneck",
    "data_wait_share",
    "backbone",
    "epochs",
]
SUMMARY_COLUMNS = [
    "method",
    "dataset",
    "seeds",
    "knn_top1",
    "knn_gain",
    "knn_gain_min",
    "pixels_knn_top1",
    "untrained_knn_top1",
    "linear_top1",
    "efficiency",
    "bottleneck",
    "pixels_linear_top1",
    "untrained_linear_top1",
    "knn_p",
    "seconds_to_target",
    "published",
    "within_spread",
]
LOADER_COLUMNS = [
    "contestant",
    "size",
    "images_per_s",
    "ours_over_it",
    "images_per_s_iqr",
    "views_per_s",
    "first_batch_s",
    "peak_mib",
    "added_mib",
    "beton",
    "threads",
    "note",
]
REQUIRED_COLUMNS = ["work", "figure", "measured", "required", "met"]
IMBALANCE_COLUMNS = [
    "method",
    "comparison",
    "knn_difference",
    "paper",
    "knn_verdict",
    "linear_difference",
    "linear_verdict",
    "seeds",
    "dataset",
    "images_seen",
]
VARIANT_COLUMNS = [
    "recipe",
    "knn_difference",
    "knn_verdict",
    "knn_top1",
    "training_s",
    "seeds",
    "epochs",
    "linear_top1",
    "linear_difference",
    "linear_verdict",
    "dataset",
    "changes",
]
PROBED_COLUMNS = [
    "encoder",
    "dataset",
    "probe",
    "top1",
    "top1_low",
    "top1_high",
    "seconds",
    "published_hours",
    "spread",
    "top5",
    "mean_class",
    "worst_class",
    "peak_memory_mib",
    "published_memory_gb",
    "peak_device_mib",
]
CLAIM_COLUMNS = ["source", "verdict", "claim", "effect", "of", "p", "published_effect", "dataset", "machine"]
COST_COLUMNS = [
    "probe",
    "setting",
    "threads",
    "seconds",
    "peer",
    "peer_seconds",
    "peer_over_ours",
    "added",
    "peer_added",
    "features",
    "queries",
    "top1_difference",
    "note",
]
THEORY_COLUMNS = ["claim", "verdict", "measured", "expected", "source"]
GPU_COLUMNS = ["work", "figure", "measured", "target", "met", "quartiles", "published", "note"]
# Of a budget, one below the other in two cells, since no terminal is as wide as all of them side by side.
SPENT = ["published_hours", "published_gpu_hours", "published_memory_gb"]
MEASURED = [
    "projected_hours",
    "gpu_hours",
    "gpu_hours_ratio",
    "measured_steps",
    "step_ms",
    "seconds_per_epoch",
    "views_per_s_gpu",
    "tflops",
    "mfu",
    "kwh",
    "cost",
    "memory_gib",
    "precision",
]


def show(report: Report, console: Console) -> None:
    """Prints the headline's sentences, the tables machine by machine, and what was left out."""
    for sentence in [*headline(report.summary, report.loader), *stronger_pixels(report.summary)]:
        console.print(_text_of(sentence))
    for table in [
        *summary_tables(report.summary, console),
        *imbalance_tables(report.imbalance, console),
        *variant_tables(report.variants, console),
        *leaderboard_tables(report.leaderboard, console),
        *probed_tables(report.probed, console),
        *cost_tables(report.probe_costs, console),
        *claim_tables(report.claims, console),
        *loader_tables(report.loader, console),
        *required_tables(report.required, console),
        *gpu_tables(report.gpu, console),
        *theory_tables(report.theory, console),
    ]:
        console.print()
        console.print(table)
    if sentence := too_small(report.imbalance):
        console.print(_text_of(sentence))
    for complaint in report.complaints:
        console.print(_text_of(f"Left out: {complaint}"))


def leaderboard_tables(leaderboard: pd.DataFrame, console: Console) -> list[Table]:
    """All runs, a table a machine."""
    return [
        _table(f"Runs on {machine}", rows, RUN_COLUMNS, _text, console) for machine, rows in by_machine(leaderboard)
    ]


def summary_tables(summary: pd.DataFrame, console: Console) -> list[Table]:
    """Accuracies with their spread over seeds, a table a machine."""
    return [
        _table(f"Over seeds on {machine}", rows, SUMMARY_COLUMNS, _summary_text, console)
        for machine, rows in by_machine(summary)
    ]


def imbalance_tables(imbalance: pd.DataFrame, console: Console) -> list[Table]:
    """What few classes a batch cost each method, the paper's direction beside it, a table a machine."""
    return [
        _table(f"Few classes a batch on {machine}", rows, IMBALANCE_COLUMNS, _compared_text, console)
        for machine, rows in by_machine(imbalance)
    ]


def variant_tables(variants: pd.DataFrame, console: Console) -> list[Table]:
    """Recipes beside the recipe that they are based on, a table a machine."""
    return [
        _table(f"Recipes beside their base on {machine}", rows, VARIANT_COLUMNS, _compared_text, console)
        for machine, rows in by_machine(variants)
    ]


def probed_tables(probed: pd.DataFrame, console: Console) -> list[Table]:
    """What single probes of any encoder found, and the paper's cost of the same, a table a machine."""
    return [
        _table(f"Probes on {machine}", rows, PROBED_COLUMNS, _text, console) for machine, rows in by_machine(probed)
    ]


def cost_tables(costs: pd.DataFrame, console: Console) -> list[Table]:
    """What the probes cost beside their peers, a table a machine."""
    return [
        _table(f"Probes' cost on {machine}", rows, COST_COLUMNS, _text, console) for machine, rows in by_machine(costs)
    ]


def claim_tables(claims: pd.DataFrame, console: Console) -> list[Table]:
    """The papers' claims that were measured; the page has the others too."""
    measured = claims[claims["verdict"] != NOT_MEASURED]
    return [_table("What the papers claim", measured, CLAIM_COLUMNS, _claim_text, console)] if len(measured) else []


def loader_tables(loader: pd.DataFrame, console: Console) -> list[Table]:
    """Loader rates beside the peers', a table a machine."""
    return [
        _table(f"Loader on {machine}", rows, LOADER_COLUMNS, _text, console) for machine, rows in by_machine(loader)
    ]


def required_tables(required: pd.DataFrame, console: Console) -> list[Table]:
    """What is required of loader and writer beside what was measured, a table a machine."""
    return [
        _table(f"Required on {machine}", rows, REQUIRED_COLUMNS, _text, console)
        for machine, rows in by_machine(required)
    ]


def gpu_tables(gpu: pd.DataFrame, console: Console) -> list[Table]:
    """What the GPU suite and the peers' step measured, the target beside it, a table a machine."""
    return [_table(f"Steps on {machine}", rows, GPU_COLUMNS, _text, console) for machine, rows in by_machine(gpu)]


def theory_tables(theory: pd.DataFrame, console: Console) -> list[Table]:
    """The theory papers' claims, their verdicts and what was measured, a table a machine."""
    return [
        _table(f"Theory on {machine}", rows, THEORY_COLUMNS, _text, console) for machine, rows in by_machine(theory)
    ]


def budget_tables(budget: pd.DataFrame, console: Console) -> list[Table]:
    """The budgets that were published, and what was measured beside them: every value, at any width."""
    if budget.empty:
        return []
    table = Table(title="Budgets", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for heading in ("budget", "published", "measured here"):
        table.add_column(heading, overflow="fold", ratio=1 if heading == "measured here" else None)
    for _, row in budget.iterrows():
        title = f"{row['source']}, {row['row']}" + (f"\non {row['hardware']}" if row["hardware"] else "")
        published, note = f"{_listed(row, SPENT)}\nby {row['provenance']}", f"\n{row['note']}" if row["note"] else ""
        if pd.isna(row["name"]):
            table.add_row(*map(_lines_of, (title, published + note, "nothing")))
        else:
            measured = f"{row['measured']} on {row['machine']}\n{_listed(row, MEASURED)}"
            table.add_row(*map(_lines_of, (title, published, measured + note)))
    return [table]


def _listed(row: pd.Series, names: list[str]) -> str:
    """A line a value with its heading in front, of those that there are; published ones always."""
    shown = [name for name in names if pd.notna(row[name]) or name in SPENT]
    return "\n".join(f"{COLUMNS[name].heading.removeprefix('published ')}: {budget_text(row, name)}" for name in shown)


def _table(
    title: str, rows: pd.DataFrame, columns: list[str], text: Callable[[pd.Series, str], str], console: Console
) -> Table:
    """The longest leading part of the columns that fits the console; three at least."""
    unlimited = console.options.update(max_width=10_000)
    for count in range(len(columns), 2, -1):
        table = Table(title=_text_of(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in columns[:count]:
            table.add_column(Text(COLUMNS[name].heading), justify="right" if COLUMNS[name].numeric else "left")
        for _, row in rows.iterrows():
            table.add_row(*(_text_of(text(row, name)) for name in columns[:count]))
        if Measurement.get(console, unlimited, table).maximum <= console.width:
            break
    return table


def _text_of(text: str) -> Text:
    """On one line, and of no markup, whatever a record holds."""
    return Text(one_line(text))


def _lines_of(text: str) -> Text:
    return Text(on_lines(text))


def _text(row: pd.Series, name: str) -> str:
    return COLUMNS[name].text(row[name])


def _summary_text(row: pd.Series, name: str) -> str:
    return spread(row, name) if name in ACCURACIES else _text(row, name)


def _claim_text(row: pd.Series, name: str) -> str:
    return bounded(row, name) if name == "effect" else _text(row, name)


def _compared_text(row: pd.Series, name: str) -> str:
    return bounded(row, name) if name in DIFFERENCES else _summary_text(row, name)
