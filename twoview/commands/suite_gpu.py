"""`twoview suite gpu`: what one GPU does with this code; or the bundle for a machine without a network."""

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
    """Measure one GPU, most valuable first: each step leaves its record as it ends, and what is there is kept.

    Args:
        name: gpu.
        out: folder of everything the suite makes.
        minutes: after which it ends; what does not fit is skipped by name.
        only: names of the steps to run, with commas between them; by default all.
        device: what to measure. On a CPU take the scale tiny, which shows that every step works, and nothing else.
        scale: full, or tiny: small networks and few steps.
        pack: tar.gz file of all records so far, written anew with every new figure.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        no_report: write records alone, without the tables and the page.
        json: print what was measured as JSON.
        check: say what this machine has of what the suite needs, and end.
        bundle: folder that gets everything that a machine without a network needs for a run, in two parts; and end.
        node: of the bundle, a file that lists what that machine has, as `pip freeze` prints it.
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
        raise ValueError(f"--only must name steps, with commas between them, got {only!r}")
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
        raise ValueError(f"stopped, or beyond their tolerance: {', '.join(failed)}; the other steps are finished")
