"""Tables as Markdown: for the docs, and the leaderboard for a pull request or an issue."""

from twoview.bench.runtime.escapes import markdown
from twoview.reports.significance import TARGETS_IN_WORDS
from twoview.reports.table import Medium, Table


def leaderboard_text(summary: Table) -> str:
    """Return the leaderboard over seeds, with one table per machine, since machines are never ranked together."""
    parts = [f"On {markdown(machine)}:\n\n{table_text(rows, 'markdown')}\n" for machine, rows in summary.by_machine()]
    if not parts:
        return "No encoder has been trained yet.\n"
    return "\n".join([*parts, f"{TARGETS_IN_WORDS}.\n"])


def table_text(table: Table, medium: Medium) -> str:
    """Return a table as Markdown, with the columns of the medium."""
    columns = table.shown(medium)
    lines = ["| " + " | ".join(column.heading for column in columns) + " |"]
    lines.append("|" + "|".join("--:" if column.numeric else "---" for column in columns) + "|")
    for row in table.rows:
        lines.append("| " + " | ".join(markdown(column.text(row)) for column in columns) + " |")
    return "\n".join(lines)
