"""A folder of evidence -> leaderboard.csv, a CSV of each other table, and index.html."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from bench.evidence import (
    AnyRecord,
    ConvertRates,
    DeviceFigures,
    LoaderRates,
    ProbeCost,
    Probing,
    Run,
    Theory,
    read_folder,
)
from loaders.files import whole_file
from reports import page, papers
from reports.budget import budget_table
from reports.cells import csv_text
from reports.claims_table import claims_table
from reports.gpu_table import gpu_table
from reports.imbalance import imbalance_table
from reports.leaderboard import leaderboard, summary
from reports.loader_table import loader_table, required_table
from reports.markdown import leaderboard_text
from reports.probe_table import probe_table
from reports.probed_table import probed_table
from reports.published import beside_papers
from reports.reconstructions import pictures
from reports.theory import theory_table
from reports.variants import variants_table

Kind = TypeVar("Kind", bound=AnyRecord)


@dataclass(frozen=True)
class Report:
    """What was written, and the tables it was written from. `loader_csv` is None without loader records, `gpu_csv`
    without records of the GPU suite, `imbalance_csv` without runs with few classes a batch or of PMSN, `variants_csv`
    without runs of a recipe and of its base, `probed_csv` without records of probes, `probe_costs_csv` without those of
    what probes cost, `theory_csv` without those of the suite theory.

    complaints: one sentence for each file of the folder that was left out.
    """

    leaderboard: pd.DataFrame
    summary: pd.DataFrame
    loader: pd.DataFrame
    required: pd.DataFrame
    gpu: pd.DataFrame
    imbalance: pd.DataFrame
    variants: pd.DataFrame
    budget: pd.DataFrame
    claims: pd.DataFrame
    probed: pd.DataFrame
    probe_costs: pd.DataFrame
    theory: pd.DataFrame
    leaderboard_csv: Path
    leaderboard_parquet: Path
    leaderboard_md: Path
    loader_csv: Path | None
    gpu_csv: Path | None
    imbalance_csv: Path | None
    variants_csv: Path | None
    budget_csv: Path
    claims_csv: Path
    probed_csv: Path | None
    probe_costs_csv: Path | None
    theory_csv: Path | None
    page: Path
    complaints: tuple[str, ...]


def write_report(evidence: Path, out: Path) -> Report:
    """Writes the leaderboard of a folder of evidence into the folder `out`, each file whole or not at all.

    FileNotFoundError without the folder of evidence; ValueError if it holds no record that can be shown.
    """
    records, complaints = read_folder(evidence)
    shown, more_complaints = _presentable(records)
    complaints = [complaint.replace(f"{evidence}/", "") for complaint in complaints] + more_complaints
    if not shown:
        raise ValueError("; ".join([f"no evidence of twoview in {evidence}", *complaints]))

    runs, rates, conversions = _of(Run, shown), _of(LoaderRates, shown), _of(ConvertRates, shown)
    devices, probings, costs = _of(DeviceFigures, shown), _of(Probing, shown), _of(ProbeCost, shown)
    theories = _of(Theory, shown)
    published = papers.load()
    table = beside_papers(leaderboard(runs), published)
    over_seeds = beside_papers(summary(table), published, "_mean")
    loader = loader_table(rates)
    required = required_table([*rates, *conversions])
    gpu = gpu_table(devices)
    imbalance = imbalance_table(runs)
    variants = variants_table(runs)
    claims = claims_table(published, runs)
    probed = probed_table(probings)
    probe_costs = probe_table(costs)
    theory = theory_table(theories)
    budget, of_no_budget = budget_table(papers.budgets(published), records)
    complaints += of_no_budget
    html = page.render(
        runs, rates, conversions, devices, probings, costs, table, over_seeds, loader, required, gpu, imbalance,
        variants, budget, probed, probe_costs, claims, theories, pictures(runs, evidence), complaints,
    )  # fmt: skip

    return Report(
        leaderboard=table,
        summary=over_seeds,
        loader=loader,
        required=required,
        gpu=gpu,
        imbalance=imbalance,
        variants=variants,
        budget=budget,
        claims=claims,
        probed=probed,
        probe_costs=probe_costs,
        theory=theory,
        leaderboard_csv=_write(out / "leaderboard.csv", csv_text(table)),
        leaderboard_parquet=_write_parquet(out / "leaderboard.parquet", table),
        leaderboard_md=_write(out / "leaderboard.md", leaderboard_text(over_seeds)),
        loader_csv=_write(out / "loader.csv", csv_text(loader)) if rates else None,
        gpu_csv=_write(out / "gpu.csv", csv_text(gpu)) if devices else None,
        imbalance_csv=None if imbalance.empty else _write(out / "imbalance.csv", csv_text(imbalance)),
        variants_csv=None if variants.empty else _write(out / "variants.csv", csv_text(variants)),
        budget_csv=_write(out / "budget.csv", csv_text(budget)),
        claims_csv=_write(out / "claims.csv", csv_text(claims)),
        probe_costs_csv=_write(out / "probe-costs.csv", csv_text(probe_costs)) if costs else None,
        probed_csv=_write(out / "probes.csv", csv_text(probed)) if probings else None,
        theory_csv=_write(out / "theory.csv", csv_text(theory)) if theories else None,
        page=_write(out / "index.html", html),
        complaints=tuple(complaints),
    )


def _presentable(records: Sequence[AnyRecord]) -> tuple[list[AnyRecord], list[str]]:
    """Those that a table can be made of, and a sentence on each other: a valid record may lack half its recipe."""
    shown: list[AnyRecord] = []
    complaints = []
    for record in records:
        try:
            if isinstance(record, Run):
                leaderboard([record])
                imbalance_table([record])
                variants_table([record])
            elif isinstance(record, LoaderRates):
                loader_table([record])
            elif isinstance(record, DeviceFigures):
                gpu_table([record])
            shown.append(record)
        except (ValueError, ArithmeticError) as error:
            complaints.append(f"{record.name} cannot be shown: {' '.join(str(error).split())}")
    return shown, complaints


def _of(kind: type[Kind], records: Sequence[AnyRecord]) -> list[Kind]:
    return [record for record in records if isinstance(record, kind)]


def _write_parquet(path: Path, table: pd.DataFrame) -> Path:
    """Every number as it was computed, not rounded as in the CSV."""
    with whole_file(path) as part:
        table.to_parquet(part, index=False)
    return path


def _write(path: Path, text: str) -> Path:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
