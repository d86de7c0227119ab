"""The command `budget`: the training time that papers report, compared with measurements here."""

from pathlib import Path

from tyro.conf import Positional

from twoview.bench import evidence
from twoview.bench.runtime.progress import Terminal, console
from twoview.commands.numbers import above_0
from twoview.reports import papers
from twoview.reports.budget import COLUMNS, budget_table
from twoview.reports.table import Table
from twoview.reports.terminal import show_budgets


def run(
    evidence_dir: Positional[Path | None] = None,
    price: float | None = None,
    all: bool = False,
    json: bool = False,
) -> None:
    """Show the hours and memory that papers report next to twoview's, projected from measured steps to whole runs.

    Each projection states how many steps after the warm-up it is based on; at least 30 are needed.

    Args:
        evidence_dir: folder of the records, one JSON file each; by default the folder out, if there is one.
        price: price of a GPU-hour in your currency; adds a cost to each budget.
        all: also show the budgets that no twoview recipe reproduces.
        json: print all budgets as JSON.
    """
    above_0(price=price)
    folder = evidence_dir or Path("out")
    found, complaints = evidence.read_folder(folder) if evidence_dir or folder.is_dir() else ([], [])
    table, more = budget_table(papers.budgets(papers.load()), found, price)
    for complaint in [*complaints, *more]:
        console.print(complaint, markup=False)
    if json:
        print(table.to_json(orient="records", indent=1))
        return
    show_budgets(Table("Budgets", COLUMNS, table if all else table[table.recipe.notna()]), Terminal())
    if not all:
        console.print(f"--all shows {table.recipe.isna().sum()} more budgets, which no twoview recipe reproduces")
