"""The command `report`: the leaderboard as tables and a web page."""

from pathlib import Path

from tyro.conf import Positional

from twoview.bench.runtime.progress import Terminal, console
from twoview.reports.report import write_report
from twoview.reports.terminal import show


def run(evidence_dir: Positional[Path], out: Path = Path("out/report"), json: bool = False) -> None:
    """Make the leaderboard from a folder of evidence records, as CSV, Parquet, Markdown and index.html.

    Args:
        evidence_dir: folder of evidence records, one JSON file per run or measurement.
        out: folder to write to.
        json: print the leaderboard as JSON.
    """
    with console.status("writing the report"):
        written = write_report(evidence_dir, out)
    if json:
        print(written.tables["leaderboard"].frame.to_json(orient="records", indent=1))
    else:
        show(written, Terminal())
