"""README's measured tables, written from the evidence that is committed: `python -m twoview.reports.readme`."""

from pathlib import Path

import pandas as pd

from twoview.bench.evidence import ConvertRates, DeviceFigures, LoaderRates, ProbeCost, Run, Theory, read_folder
from twoview.bench.runtime.escapes import markdown
from twoview.bench.suites.gpu.targets import target
from twoview.loaders.files import whole_file
from twoview.reports.gpu_table import gpu_table
from twoview.reports.leaderboard import by_machine, leaderboard, summary
from twoview.reports.loader_table import latest, loader_table, required_table
from twoview.reports.markdown import table_text
from twoview.reports.probe_table import probe_table
from twoview.reports.theory import theory_table
from twoview.reports.variants import variants_table

README = Path(__file__).resolve().parent.parent / "README.md"
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
RUNS = [
    "dataset",
    "method",
    "recipe",
    "seeds",
    "knn_top1",
    "untrained_knn_top1",
    "pixels_knn_top1",
    "knn_gain",
    "knn_gain_min",
]
SPEEDS = ["recipe", "views_per_s", "seconds_per_epoch", "efficiency", "data_wait_share", "peak_memory_mib"]
LOADER = ["beton", "size", "views", "batch", "contestant", "images_per_s", "ours_over_it", "first_batch_s", "peak_mib"]
LOADER += ["note"]
PROBES = ["probe", "features", "queries", "setting", "threads", "seconds", "added", "peer"]
PROBES += ["peer_seconds", "peer_added", "peer_over_ours", "top1_difference"]
GPU = ["work", "figure", "measured", "quartiles", "target", "published", "note"]
STEPS = ["work", "figure", "measured", "quartiles", "note"]
THEORY = ["claim", "verdict"]
REQUIRED = ["work", "figure", "measured", "required", "met"]


def measured(results: Path) -> str:
    """The Markdown between the marks, GPUs beside targets, then accuracies, speeds, peers of every part, verdicts."""
    records, complaints = read_folder(results)
    if complaints:
        raise ValueError("; ".join(complaints))
    runs = [record for record in records if isinstance(record, Run)]
    table = leaderboard(runs)
    # Variants of one recipe are many rows, which say something beside it alone: the page has a table of theirs.
    table = table[~table["recipe"].isin(variants_table(runs)["recipe"])]
    loader = latest(loader_table([record for record in records if isinstance(record, LoaderRates)]))
    required = required_table([record for record in records if isinstance(record, LoaderRates | ConvertRates)])
    probes = probe_table([record for record in records if isinstance(record, ProbeCost)])
    steps = gpu_table([record for record in records if isinstance(record, DeviceFigures)])
    theory = theory_table([record for record in records if isinstance(record, Theory)])
    aimed = [target(name, figure, work) is not None for name, figure, work in steps[["name", "figure", "work"]].values]
    parts = []
    for machine, rows in by_machine(steps.loc[aimed]):
        parts.append(f"On {markdown(machine)}, one card:")
        parts.append(table_text(rows, GPU))
    for machine, rows in by_machine(summary(table)):
        parts.append(f"On {markdown(machine)}, at {_commits(table, loader, machine)}:")
        parts.append(table_text(rows, RUNS))
        parts.append(table_text(rows, SPEEDS))
        parts.append(table_text(loader[loader["machine"] == machine], LOADER))
        parts.append(table_text(required[required["machine"] == machine], REQUIRED))
        for more, columns in ((steps, STEPS), (probes, PROBES), (theory, THEORY)):
            if (mine := more[more["machine"] == machine]).size:
                parts.append(table_text(mine, columns))
    return "\n\n".join(parts)


def _commits(table: pd.DataFrame, loader: pd.DataFrame, machine: str) -> str:
    """Of all records of a machine that are shown."""
    shown = pd.concat([rows.loc[rows["machine"] == machine, "commit"] for rows in (table, loader)])
    commits = sorted({str(commit)[:10] for commit in shown})
    return markdown(f"commit {commits[0]}" if len(commits) == 1 else f"commits {', '.join(commits)}")


def write(readme: Path = README, results: Path = RESULTS) -> None:
    """Puts the tables between the marks. ValueError if the marks are missing."""
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme} lacks the marks {BEGIN} and {END}")
    with whole_file(readme) as part:
        part.write_text(f"{before}{BEGIN}\n{measured(results)}\n{END}{after}")


if __name__ == "__main__":
    write()
