"""A list of measurements and trainings, run to its end."""

from pathlib import Path

from tyro.conf import Positional

from bench import suite as suites
from bench.commands import report
from bench.commands.places import place_of
from reports.report import write_report


def run(
    name: Positional[str],
    out: Path | None = None,
    seeds: int | None = None,
    minutes: float = 60,
    data_root: Path | None = None,
    json: bool = False,
) -> None:
    """Run a suite: measure, train, judge, and write evidence and leaderboard. Run again, it goes on where it stopped.

    Args:
        name: a name from `twoview list suites`.
        out: folder of everything the suite makes; out/NAME by default.
        seeds: how many times to train each recipe, with seeds 0, 1, ...; by default once, by imbalance several times.
        minutes: of the suite gpu, after which it ends; what does not fit is skipped by name.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the leaderboard, or what the suites gpu measured, imbalance compared or theory found, as JSON.
    """
    if name == "gpu":
        return _gpu_suite(out or Path("out/gpu"), minutes, data_root, json)
    work = suites.suite(name)
    if seeds is not None and seeds < 1:
        raise ValueError(f"--seeds must be at least 1, not {seeds}")
    folder = out or Path("out") / name
    suites.run(work, folder / "evidence", place_of(folder, None, data_root), seeds or work.seeds)
    if json and name.startswith(("imbalance", "theory")):
        written = write_report(folder / "evidence", folder)
        table = written.theory if name == "theory" else written.imbalance
        return print(table.to_json(orient="records", indent=1))
    report.run(folder / "evidence", folder, json)


def _gpu_suite(folder: Path, minutes: float, data_root: Path | None, json: bool) -> None:
    from bench.gpu import suite as gpu

    failed = gpu.run(folder / "evidence", place_of(folder, None, data_root), minutes)
    if json:
        print(write_report(folder / "evidence", folder).gpu.to_json(orient="records", indent=1))
    else:
        report.run(folder / "evidence", folder)
    if failed:
        raise ValueError(f"failed, or beyond their tolerance: {', '.join(failed)}; the other steps are finished")
