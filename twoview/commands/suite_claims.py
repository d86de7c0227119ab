"""`twoview suite claims`: the papers' claims, tested at reduced scale."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from twoview.bench.config.claims_scale import SCALES
from twoview.bench.config.experiment import place_of
from twoview.commands import report


def run(
    name: Positional[Literal["claims"]],
    out: Path | None = None,
    scale: Literal["cpu", "gpu"] = "cpu",
    quick: bool = False,
    data_root: Path | None = None,
    json: bool = False,
) -> None:
    """Test the papers' claims at reduced scale: train small versions of the papers' recipes, and test each claim.

    A second run continues where the first stopped.

    Args:
        name: claims.
        out: folder of everything that the suite writes; by default out/claims, or with other options out/claims-gpu,
            out/claims-quick or out/claims-gpu-quick.
        scale: cpu, for two cores, or gpu, with larger networks, all images and longer training runs.
        quick: one short training run of each recipe, to see that everything runs; no claim gets a verdict.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the claims as JSON.
    """
    from twoview.bench.suites import claims, runner
    from twoview.reports.report import write_report

    chosen = SCALES[scale].quick if quick else SCALES[scale]
    words = "claims" if scale == "cpu" else "claims-gpu"
    folder = out or Path("out") / (f"{words}-quick" if quick else words)
    place = place_of(folder, None, data_root)
    runner.run_steps(claims.steps(chosen, place), folder / "evidence", place)
    if json:
        return print(
            write_report(folder / "evidence", folder).tables["claims"].frame.to_json(orient="records", indent=1)
        )
    report.run(folder / "evidence", folder)
