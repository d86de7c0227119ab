"""A folder of evidence -> leaderboard.csv, a CSV of each other table, and index.html.

A record that is valid and yet cannot be shown is left out by name, and the others are shown.
"""

import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from twoview.bench.evidence import (
    AnyRecord,
    ConvertRates,
    DeviceFigures,
    LoaderRates,
    ProbeCost,
    Probing,
    Run,
    Theory,
    read_folder,
    reason,
)
from twoview.bench.runtime.locks import alone
from twoview.loaders.files import whole_file
from twoview.reports import page, papers
from twoview.reports.budget import budget_table
from twoview.reports.cells import csv_text
from twoview.reports.claims_table import claims_table
from twoview.reports.gpu_table import gpu_table
from twoview.reports.imbalance import imbalance_table
from twoview.reports.leaderboard import leaderboard, summary
from twoview.reports.loader_table import loader_table, required_table
from twoview.reports.markdown import leaderboard_text
from twoview.reports.probe_table import probe_table
from twoview.reports.probed_table import probed_table
from twoview.reports.published import beside_papers
from twoview.reports.reconstructions import Picture, pictures
from twoview.reports.theory import theory_table
from twoview.reports.variants import variants_table

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


@dataclass(frozen=True)
class Made:
    """What a report says, before anything of it is written. files: by name. left_out: those that it has no rows for."""

    tables: dict[str, pd.DataFrame]
    files: dict[str, bytes]
    left_out: tuple[str, ...]
    complaints: tuple[str, ...]


def write_report(evidence: Path, out: Path) -> Report:
    """Writes the leaderboard of a folder of evidence into the folder `out`: all of its files, or none if that fails.

    FileNotFoundError without the folder of evidence; ValueError if it holds no record that can be shown;
    BlockingIOError while another process writes a report into `out`.
    """
    records, complaints = read_folder(evidence)
    complaints = [complaint.replace(f"{evidence}/", "") for complaint in complaints]
    shown = [record for record in records if _presentable(record, complaints)]
    if not shown:
        raise ValueError("; ".join([f"no evidence of twoview in {evidence}", *complaints]))
    with alone(out / "index.html", "the report"):
        beside = pictures(_of(Run, shown), evidence, complaints)
        made = _made_of_most(shown, beside, complaints)
        with ExitStack() as all_written:
            for name, content in made.files.items():
                all_written.enter_context(whole_file(out / name)).write_bytes(content)
        for name in made.left_out:  # an older report's, of records that are there no more
            (out / name).unlink(missing_ok=True)
    paths = {name: out / name for name in made.files}
    return Report(
        leaderboard=made.tables["leaderboard"],
        summary=made.tables["summary"],
        loader=made.tables["loader"],
        required=made.tables["required"],
        gpu=made.tables["gpu"],
        imbalance=made.tables["imbalance"],
        variants=made.tables["variants"],
        budget=made.tables["budget"],
        claims=made.tables["claims"],
        probed=made.tables["probed"],
        probe_costs=made.tables["probe_costs"],
        theory=made.tables["theory"],
        leaderboard_csv=paths["leaderboard.csv"],
        leaderboard_parquet=paths["leaderboard.parquet"],
        leaderboard_md=paths["leaderboard.md"],
        loader_csv=paths.get("loader.csv"),
        gpu_csv=paths.get("gpu.csv"),
        imbalance_csv=paths.get("imbalance.csv"),
        variants_csv=paths.get("variants.csv"),
        budget_csv=paths["budget.csv"],
        claims_csv=paths["claims.csv"],
        probed_csv=paths.get("probes.csv"),
        probe_costs_csv=paths.get("probe-costs.csv"),
        theory_csv=paths.get("theory.csv"),
        page=paths["index.html"],
        complaints=made.complaints,
    )


def _made_of_most(records: Sequence[AnyRecord], beside: Sequence[Picture], complaints: list[str]) -> Made:
    """Of all records; if no report can be made of them, of those of which one can, and a sentence on each other."""
    try:
        return _made(records, beside, complaints)
    except Exception:  # whatever it is, it is found and named
        kept = _joined([], records, lambda some: _made(some, beside, []), complaints)
    return _made(kept, beside, complaints)


def _joined(
    kept: list[AnyRecord],
    group: Sequence[AnyRecord],
    make: Callable[[Sequence[AnyRecord]], object],
    complaints: list[str],
) -> list[AnyRecord]:
    """What is kept, and of the group those beside which `make` does not fail; a complaint on each other."""
    if not group:
        return kept
    try:
        make([*kept, *group])
        return [*kept, *group]
    except Exception as error:
        if len(group) == 1:
            complaints.append(_sentence(group[0], error))
            return kept
    half = len(group) // 2
    return _joined(_joined(kept, group[:half], make, complaints), group[half:], make, complaints)


def _made(records: Sequence[AnyRecord], beside: Sequence[Picture], complaints: Sequence[str]) -> Made:
    runs, rates, conversions = _of(Run, records), _of(LoaderRates, records), _of(ConvertRates, records)
    devices, probings, costs = _of(DeviceFigures, records), _of(Probing, records), _of(ProbeCost, records)
    theories = _of(Theory, records)
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
    complaints = (*complaints, *of_no_budget)
    html = page.render(
        runs, rates, conversions, devices, probings, costs, table, over_seeds, loader, required, gpu, imbalance,
        variants, budget, probed, probe_costs, claims, theories, beside, complaints,
    )  # fmt: skip
    texts = {
        "leaderboard.csv": csv_text(table),
        "leaderboard.md": leaderboard_text(over_seeds),
        "loader.csv": csv_text(loader) if rates else None,
        "gpu.csv": csv_text(gpu) if devices else None,
        "imbalance.csv": None if imbalance.empty else csv_text(imbalance),
        "variants.csv": None if variants.empty else csv_text(variants),
        "budget.csv": csv_text(budget),
        "claims.csv": csv_text(claims),
        "probe-costs.csv": csv_text(probe_costs) if costs else None,
        "probes.csv": csv_text(probed) if probings else None,
        "theory.csv": csv_text(theory) if theories else None,
        "index.html": html,
    }
    return Made(
        tables={
            "leaderboard": table,
            "summary": over_seeds,
            "loader": loader,
            "required": required,
            "gpu": gpu,
            "imbalance": imbalance,
            "variants": variants,
            "budget": budget,
            "claims": claims,
            "probed": probed,
            "probe_costs": probe_costs,
            "theory": theory,
        },
        files={
            "leaderboard.parquet": _parquet(table),
            **{name: text.encode() for name, text in texts.items() if text is not None},
        },
        left_out=tuple(name for name, text in texts.items() if text is None),
        complaints=complaints,
    )


def _presentable(record: AnyRecord, complaints: list[str]) -> bool:
    """Whether a table can be made of it, which takes no time; if not, why: a valid record may lack half its recipe."""
    try:
        if isinstance(record, Run):
            leaderboard([record])
            imbalance_table([record])
            variants_table([record])
        elif isinstance(record, LoaderRates):
            loader_table([record])
        elif isinstance(record, DeviceFigures):
            gpu_table([record])
        elif isinstance(record, ProbeCost):
            probe_table([record])
        elif isinstance(record, Probing):
            probed_table([record])
    except Exception as error:  # whatever it is, it is this record's
        complaints.append(_sentence(record, error))
        return False
    return True


def _sentence(record: AnyRecord, error: Exception) -> str:
    return f"{record.name}.json cannot be shown: {reason(error)}"


def _of(kind: type[Kind], records: Sequence[AnyRecord]) -> list[Kind]:
    return [record for record in records if isinstance(record, kind)]


def _parquet(table: pd.DataFrame) -> bytes:
    """Every number as it was computed, not rounded as in the CSV."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
