"""A folder of evidence -> leaderboard.csv, a CSV of each other table, and index.html."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.evidence import AnyRecord, ConvertRates, DeviceFigures, LoaderRates, Probing, Run, Theory, read_folder
from loaders.files import whole_file
from reports import page, papers
from reports.budget import budget_table
from reports.cells import csv_text
from reports.gpu_table import gpu_table
from reports.imbalance import imbalance_table
from reports.leaderboard import leaderboard, summary
from reports.loader_table import loader_table, required_table
from reports.markdown import leaderboard_text
from reports.probed_table import probed_table
from reports.published import beside_papers
from reports.reconstructions import pictures
from reports.theory import theory_table


@dataclass(frozen=True)
class Report:
    """What was written, and the tables it was written from. `loader_csv` is None without loader records, `gpu_csv`
    without records of the GPU suite, `imbalance_csv` without runs with few classes a batch or of PMSN, `probed_csv`
    without records of probes, `theory_csv` without those of the suite theory.

    complaints: one sentence for each file of the folder that was left out.
    """

    leaderboard: pd.DataFrame
    summary: pd.DataFrame
    loader: pd.DataFrame
    required: pd.DataFrame
    gpu: pd.DataFrame
    imbalance: pd.DataFrame
    budget: pd.DataFrame
    probed: pd.DataFrame
    theory: pd.DataFrame
    leaderboard_csv: Path
    leaderboard_parquet: Path
    leaderboard_md: Path
    loader_csv: Path | None
    gpu_csv: Path | None
    imbalance_csv: Path | None
    budget_csv: Path
    probed_csv: Path | None
    theory_csv: Path | None
    page: Path
    complaints: tuple[str, ...]


def write_report(evidence: Path, out: Path) -> Report:
    """Writes the leaderboard of a folder of evidence into the folder `out`, each file whole or not at all.

    FileNotFoundError without the folder of evidence; ValueError if it holds no record that can be shown.
    """
    records, complaints = read_folder(evidence)
    theories = [record for record in records if isinstance(record, Theory)]
    runs, rates, conversions, devices, probings, more_complaints = _presentable(records)
    complaints = [complaint.replace(f"{evidence}/", "") for complaint in complaints] + more_complaints
    if not (runs or rates or conversions or devices or probings or theories):
        raise ValueError("; ".join([f"no evidence of twoview in {evidence}", *complaints]))

    published = papers.load()
    table = beside_papers(leaderboard(runs), published)
    over_seeds = beside_papers(summary(table), published, "_mean")
    loader = loader_table(rates)
    required = required_table([*rates, *conversions])
    gpu = gpu_table(devices)
    imbalance = imbalance_table(runs)
    probed = probed_table(probings)
    theory = theory_table(theories)
    budget, of_no_budget = budget_table(papers.budgets(published), records)
    complaints += of_no_budget
    html = page.render(
        runs, rates, conversions, devices, probings, table, over_seeds, loader, required, gpu, imbalance, budget,
        probed, theories, pictures(runs, evidence), complaints,
    )  # fmt: skip

    return Report(
        leaderboard=table,
        summary=over_seeds,
        loader=loader,
        required=required,
        gpu=gpu,
        imbalance=imbalance,
        budget=budget,
        probed=probed,
        theory=theory,
        leaderboard_csv=_write(out / "leaderboard.csv", csv_text(table)),
        leaderboard_parquet=_write_parquet(out / "leaderboard.parquet", table),
        leaderboard_md=_write(out / "leaderboard.md", leaderboard_text(over_seeds)),
        loader_csv=_write(out / "loader.csv", csv_text(loader)) if rates else None,
        gpu_csv=_write(out / "gpu.csv", csv_text(gpu)) if devices else None,
        imbalance_csv=None if imbalance.empty else _write(out / "imbalance.csv", csv_text(imbalance)),
        budget_csv=_write(out / "budget.csv", csv_text(budget)),
        probed_csv=_write(out / "probes.csv", csv_text(probed)) if probings else None,
        theory_csv=_write(out / "theory.csv", csv_text(theory)) if theories else None,
        page=_write(out / "index.html", html),
        complaints=tuple(complaints),
    )


def _presentable(
    records: Sequence[AnyRecord],
) -> tuple[list[Run], list[LoaderRates], list[ConvertRates], list[DeviceFigures], list[Probing], list[str]]:
    """Splits the records by kind. A valid record can still lack epochs or half its recipe: left out."""
    runs: list[Run] = []
    rates: list[LoaderRates] = []
    conversions: list[ConvertRates] = []
    devices: list[DeviceFigures] = []
    probings: list[Probing] = []
    complaints = []
    for record in records:
        try:
            if isinstance(record, Run):
                leaderboard([record])
                imbalance_table([record])
                runs.append(record)
            elif isinstance(record, LoaderRates):
                loader_table([record])
                rates.append(record)
            elif isinstance(record, ConvertRates):
                conversions.append(record)
            elif isinstance(record, DeviceFigures):
                gpu_table([record])
                devices.append(record)
            elif isinstance(record, Probing):
                probings.append(record)
        except (ValueError, ArithmeticError) as error:
            complaints.append(f"{record.name} cannot be shown: {' '.join(str(error).split())}")
    return runs, rates, conversions, devices, probings, complaints


def _write_parquet(path: Path, table: pd.DataFrame) -> Path:
    """Every number as it was computed, not rounded as in the CSV."""
    with whole_file(path) as part:
        table.to_parquet(part, index=False)
    return path


def _write(path: Path, text: str) -> Path:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
