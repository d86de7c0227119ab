"""`twoview suite gpu`: measurements on one GPU, or a bundle to make them on a machine without a network."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from twoview.bench.config.experiment import place_of
from twoview.bench.suites.gpu import requirements
from twoview.commands import report


def run(
    name: Positional[Literal["gpu"]],
    out: Path = Path("out/gpu"),
    minutes: float = 60,
    only: str = "",
    device: Literal["cuda", "cpu"] = "cuda",
    scale: Literal["full", "tiny"] = "full",
    pack: Path | None = None,
    data_root: Path | None = None,
    no_report: bool = False,
    json: bool = False,
    check: bool = False,
    bundle: Path | None = None,
    node: Path | None = None,
) -> None:
    """Measure one GPU, the most valuable steps first. Each finished step leaves a record and is not measured again.

    Args:
        name: gpu.
        out: folder of everything that the suite writes.
        minutes: time limit in minutes; steps that no longer fit are listed and skipped.
        only: names of the steps to run, separated by commas; by default all.
        device: device to measure. On the CPU use the scale tiny, which shows that every step works and nothing more.
        scale: full, or tiny for small networks and few steps.
        pack: tar.gz file of all records so far; it is rewritten whenever a record changes.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        no_report: write records only, without the tables and the page.
        json: print what was measured as JSON.
        check: list which of the suite's requirements this machine meets, and exit.
        bundle: folder to fill with everything that a machine without a network needs for a run, in two parts; then
            exit.
        node: for --bundle, a file that lists the packages of that machine, as `pip freeze` prints them.
    """
    place = place_of(out, None, data_root)
    if bundle:
        from twoview.bench.suites.gpu import bundle as bundles

        bundles.write(bundle, place.root, node)
        return
    from twoview.bench.suites.gpu import suite
    from twoview.bench.suites.gpu.scale import SCALES
    from twoview.reports.report import write_report

    steps = [step.strip() for step in only.split(",") if step.strip()]
    if only and not steps:
        raise ValueError(f"--only must name steps, separated by commas, got {only!r}")
    if check:
        suite.plan(minutes, steps)
        print(*requirements.lines(device, place.root, out), sep="\n")
        return
    failed = suite.run(out / "evidence", place, minutes, replace(SCALES[scale], device=device), steps, pack)
    if json:
        print(write_report(out / "evidence", out).tables["gpu"].frame.to_json(orient="records", indent=1))
    elif not no_report and list((out / "evidence").rglob("*.json")):
        report.run(out / "evidence", out)
    if failed:
        raise ValueError(f"these steps stopped early or exceeded a tolerance: {', '.join(failed)}")
