"""What the papers spent, beside what was measured."""

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
    """Show what the papers' budgets are, beside what was measured: the whole projected from measured steps.

    A projection says from how many steady steps it comes; from fewer than 30 there is none.

    Args:
        evidence_dir: folder of the records, one JSON file each; by default out, where there is such a folder.
        price: of a GPU-hour, in your currency: adds the cost.
        all: show the budgets too that no recipe of ours repeats.
        json: print all of them as JSON.
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
        console.print(f"{table.recipe.isna().sum()} more budgets, which no recipe of ours repeats, by --all")
