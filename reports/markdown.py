"""Tables as Markdown: README's, and the leaderboard for a pull request or an issue."""

import pandas as pd

from twoview.bench.runtime.escapes import markdown
from twoview.reports.cells import COLUMNS, Column, between, spread
from twoview.reports.leaderboard import by_machine
from twoview.reports.significance import TARGETS_IN_WORDS

LEADERBOARD = [
    "dataset",
    "method",
    "backbone",
    "epochs",
    "batch",
    "seeds",
    "knn_top1",
    "knn_interval",
    "knn_p",
    "linear_top1",
    "linear_interval",
    "published",
    "within_spread",
    "views_per_s",
    "seconds_per_epoch",
    "seconds_to_target",
    "peak_memory_mib",
    "peak_device_mib",
    "recipe",
]


def leaderboard_text(summary: pd.DataFrame) -> str:
    """The leaderboard over seeds, a table a machine, whose rows are never ranked with another's."""
    parts = [f"On {markdown(machine)}:\n\n{table_text(rows, LEADERBOARD)}\n" for machine, rows in by_machine(summary)]
    if not parts:
        return "No encoder has been trained yet.\n"
    return "\n".join([*parts, f"{TARGETS_IN_WORDS}.\n"])


def table_text(rows: pd.DataFrame, names: list[str]) -> str:
    columns = [COLUMNS[name] for name in names]
    lines = ["| " + " | ".join(column.heading for column in columns) + " |"]
    lines.append("|" + "|".join("--:" if column.numeric else "---" for column in columns) + "|")
    for _, row in rows.iterrows():
        lines.append("| " + " | ".join(markdown(_cell(row, name, COLUMNS[name])) for name in names) + " |")
    return "\n".join(lines)


def _cell(row: pd.Series, name: str, column: Column) -> str:
    if f"{name}_mean" in row:
        return spread(row, name)
    if f"{name}_low" in row:
        return between(row, name)
    return column.text(row[name])
