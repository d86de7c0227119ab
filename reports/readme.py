"""README's measured tables, written from the committed evidence records by `python -m twoview.reports.readme`."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from twoview.bench.evidence import DeviceFigures, Run, read_folder
from twoview.bench.runtime.escapes import markdown
from twoview.loaders.files import whole_file
from twoview.reports import over_seeds
from twoview.reports.contents import RECORD_TABLES, select
from twoview.reports.gpu_table import target_table
from twoview.reports.leaderboard import leaderboard
from twoview.reports.loader_table import latest
from twoview.reports.markdown import table_text
from twoview.reports.table import Medium, Table
from twoview.reports.variants import variants_table

README = Path(__file__).resolve().parent.parent / "README.md"
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def measured(results: Path) -> str:
    """Return the Markdown that goes between README's marks.

    It has the GPU figures beside their targets, and then for each machine accuracies, speeds, every part beside its
    peers (the same work in other libraries), and the verdicts on the theory papers' claims.
    Raises ValueError if a file in `results` is not a valid record.
    """
    records, complaints = read_folder(results)
    if complaints:
        raise ValueError("; ".join(complaints))
    runs = select(Run, records)
    board = leaderboard(runs)
    # The many variants of one recipe say something only beside it; the page has a table of their own for them.
    board = board[~board["recipe"].isin(variants_table(runs)["recipe"])]
    trained = Table("Over seeds", over_seeds.COLUMNS, over_seeds.summary(board))
    loader, required, steps, probes, theory = (
        RECORD_TABLES[name].table(records) for name in ("loader", "required", "gpu", "probe-costs", "theory")
    )
    loader = replace(loader, frame=latest(loader.frame))
    aimed = replace(steps, frame=target_table(select(DeviceFigures, records)))
    parts = []
    for machine, rows in aimed.by_machine():
        parts.append(f"On {markdown(machine)}, one card:")
        parts.append(table_text(rows, "readme"))
    for machine, rows in trained.by_machine():
        parts.append(f"On {markdown(machine)}, at {_commits(board, loader.frame, machine)}:")
        parts.append(table_text(rows, "readme"))
        parts.append(table_text(rows, "readme_more"))
        parts.append(table_text(loader.of_machine(machine), "readme"))
        parts.append(table_text(required.of_machine(machine), "readme"))
        others: list[tuple[Table, Medium]] = [(steps, "readme_more"), (probes, "readme"), (theory, "readme")]
        parts += [table_text(mine, medium) for more, medium in others if len((mine := more.of_machine(machine)).frame)]
    return "\n\n".join(parts)


def _commits(table: pd.DataFrame, loader: pd.DataFrame, machine: str) -> str:
    """Return in words the commits that measured a machine's rows."""
    shown = pd.concat([rows.loc[rows["machine"] == machine, "commit"] for rows in (table, loader)])
    commits = sorted({str(commit)[:10] for commit in shown})
    return markdown(f"commit {commits[0]}" if len(commits) == 1 else f"commits {', '.join(commits)}")


def write(readme: Path = README, results: Path = RESULTS) -> None:
    """Write the tables between the marks in README. Raises ValueError if a mark is missing."""
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme} lacks the marks {BEGIN} and {END}")
    with whole_file(readme) as part:
        part.write_text(f"{before}{BEGIN}\n{measured(results)}\n{END}{after}")


if __name__ == "__main__":
    write()
