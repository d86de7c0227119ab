"""The parts of README and the docs that are generated from the committed evidence by `python -m
twoview.reports.documents`.

README has a table of a few highlights, the docs' page of results has all tables, and both show a chart that compares
the loader with other libraries' loaders.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from twoview.bench.config import claims_scale
from twoview.bench.evidence import AnyRecord, DeviceFigures, LoaderRates, Run, Theory, read_folder
from twoview.bench.runtime.escapes import markdown
from twoview.bench.suites.gpu.targets import target
from twoview.loaders.files import whole_file
from twoview.reports import claims_table, over_seeds, papers
from twoview.reports.cells import Column
from twoview.reports.contents import RECORD_TABLES, select
from twoview.reports.gpu_table import target_table
from twoview.reports.leaderboard import leaderboard
from twoview.reports.loader_chart import SCHEMES, loader_chart
from twoview.reports.loader_table import TWOVIEW, latest
from twoview.reports.markdown import table_text
from twoview.reports.table import Medium, Table, frame_of
from twoview.reports.variants import variants_table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
# The names of the records for the highlights.
LOADER = "peers-loader-photographs-simclr-imagenet-224"
BUDGET, RATES, QUICK = "gpu-budget-lee2025-imagenet-simclr", "gpu-rates", "quick-fashion-mnist"
HIGHLIGHTS = [
    Column("work", "workload", results=1),
    Column("measured", "twoview", results=2),
    Column("comparison", "for comparison", results=3),
    Column("machine", "hardware", results=4),
]


def highlights(records: Sequence[AnyRecord]) -> str:
    """Return README's table as Markdown: loader, GPU training, a paper's budget, and an accuracy from `make bench`.

    Raises StopIteration if one of these records is missing.
    """
    rates = next(record for record in select(LoaderRates, records) if record.name == LOADER)
    gpu, budget = (
        next(record for record in select(DeviceFigures, records) if record.name == name) for name in (RATES, BUDGET)
    )
    medians = {name: float(np.median(values)) for name, values in rates.images_per_s.items()}
    training, efficiency, hours = (
        next(figure for figure in record.figures if figure.quantity == quantity)
        for record, quantity in ((gpu, "training_rate"), (gpu, "efficiency"), (budget, "projected_gpu_hours"))
    )
    published = target(BUDGET, hours)
    assert published
    runs = [run for run in select(Run, records) if run.recipe["name"] == QUICK]
    baselines = [run for run in select(Run, records) if run.subject != "trained"]
    (quick,) = over_seeds.summary(leaderboard([*runs, *baselines])).to_dict("records")
    rows = [
        {
            "work": "Two augmented views of each photograph, 224 px, with every op of SimCLR, "
            f"batches of {rates.batch}, {rates.threads} threads",
            "measured": f"{medians[TWOVIEW]:,.0f} images/s",
            "comparison": f"torchvision {medians['torchvision']:,.0f}, lightly {medians['lightly']:,.0f}, and stock "
            f"FFCV, which makes only crops and flips, {medians['ffcv']:,.0f} images/s",
            "machine": rates.environment.machine,
        },
        {
            "work": "Training SimCLR with ResNet-50 at 224 px on JPEGs",
            "measured": f"{np.median(training.samples):,.0f} views/s",
            "comparison": f"{np.median(efficiency.samples):.1f} % of the ceiling: the loader or the model alone, "
            "whichever is slower",
            "machine": gpu.environment.machine,
        },
        {
            "work": "100 epochs of SimCLR on ImageNet, projected from measured steps",
            "measured": f"{np.median(hours.samples):.1f} GPU-hours",
            "comparison": f"the paper: {published.published}",
            "machine": budget.environment.machine,
        },
        {
            "work": f"SimCLR on Fashion-MNIST in make bench: {quick['seeds']} seeds, "
            f"{quick['training_s']:.0f} s of training each",
            "measured": f"kNN top-1 {quick['knn_top1_mean']:.1f} ± {quick['knn_top1_sd']:.1f} %",
            "comparison": f"raw pixels {quick['pixels_knn_top1_mean']:.1f} %, the untrained encoder "
            f"{quick['untrained_knn_top1_mean']:.1f} %",
            "machine": quick["machine"],
        },
    ]
    return table_text(Table("Highlights", HIGHLIGHTS, frame_of(rows, HIGHLIGHTS)), "results")


def measured(records: Sequence[AnyRecord]) -> str:
    """Return the tables of the docs' page of results as Markdown.

    These are the GPU figures with their targets, and then for each machine accuracies, speeds, comparisons with peers
    (the same work in other libraries), and the verdicts on the papers' claims.
    """
    runs = select(Run, records)
    board = leaderboard(runs)
    # Omitted here: the many variants of one recipe, which have a table of their own on the report's page, and the
    # recipes of claims, whose contrasts are in the table of claims.
    board = board[~board["recipe"].isin(variants_table(runs)["recipe"])]
    compared = board[~board["recipe"].isin(claims_scale.names())]
    trained = Table("Over seeds", over_seeds.COLUMNS, over_seeds.summary(compared))
    loader, required, steps, probes, theory = (
        RECORD_TABLES[name].table(records) for name in ("loader", "required", "gpu", "probe-costs", "theory")
    )
    loader = replace(loader, frame=latest(loader.frame))
    theories = select(Theory, records)
    claimed = claims_table.claims_table(papers.load(), runs, theories)
    claims = Table("Claims", claims_table.COLUMNS, claimed[claimed["verdict"] != claims_table.NOT_MEASURED])
    aimed = replace(steps, frame=target_table(select(DeviceFigures, records)))
    parts = []
    for machine, rows in aimed.by_machine():
        parts += [f"On {markdown(machine)}, one GPU; the targets are for an H100:", table_text(rows, "results")]
    tables: list[tuple[str, Table, Medium]] = [
        ("Accuracy", trained, "results"),
        ("Training speed", trained, "results_more"),
        ("Loader throughput", loader, "results"),
        ("Requirements for the loader", required, "results"),
        ("Training step compared with lightly", steps, "results_more"),
        ("Cost of the probes", probes, "results"),
        ("Claims about accuracies", claims, "results"),
        ("Claims of theory papers", theory, "results"),
    ]
    measured_at = [
        *zip(*(pd.concat([board, loader.frame])[column] for column in ("machine", "commit")), strict=True),
        *((record.environment.machine, record.environment.commit) for record in theories),
    ]
    for machine, _ in trained.by_machine():
        commits = _commits(commit for where, commit in measured_at if where == machine)
        parts.append(f"On {markdown(machine)}, at {commits}:")
        for caption, table, medium in tables:
            if len((mine := table.of_machine(machine)).frame):
                parts += [f"**{caption}**", table_text(mine, medium)]
    return "\n\n".join(parts)


def _commits(measured: Iterable[str]) -> str:
    """Return the commits that measured a machine's rows as text."""
    commits = sorted({commit[:10] for commit in measured})
    return markdown(f"commit {commits[0]}" if len(commits) == 1 else f"commits {', '.join(commits)}")


def write(root: Path = ROOT, results: Path = RESULTS) -> None:
    """Write the tables between the marks of README and the page of results, and the charts.

    Raises ValueError if a file in `results` is not a valid record, or if a mark is missing.
    """
    records, complaints = read_folder(results)
    if complaints:
        raise ValueError("; ".join(complaints))
    fill(root / "README.md", highlights(records))
    fill(root / "docs" / "results.md", measured(records))
    rates = next(record for record in select(LoaderRates, records) if record.name == LOADER)
    for scheme in SCHEMES:
        with whole_file(root / "docs" / "images" / f"loader-{scheme}.svg") as part:
            part.write_text(loader_chart(rates, scheme))


def fill(page: Path, text: str) -> None:
    """Replace the text between the marks of a page. Raises ValueError if a mark is missing."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} lacks the marks {BEGIN} and {END}")
    with whole_file(page) as part:
        part.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    write()
