"""Writes leaderboard.csv, a CSV of each other table, and index.html from a folder of evidence records.

A valid record that cannot be shown is skipped, with a message that names it; the others are shown.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from twoview.bench.evidence import AnyRecord, Run, read_folder, reason
from twoview.bench.runtime.locks import alone
from twoview.loaders.files import whole_file
from twoview.reports import page
from twoview.reports.contents import RECORD_TABLES, Report, report_of, select
from twoview.reports.markdown import leaderboard_text
from twoview.reports.reconstructions import Image, images

NO_CSV = ("summary", "required")  # tables without a CSV: they summarize the rows of other tables
ALWAYS = ("leaderboard", "budget", "claims")  # tables whose CSV is written even if it has no rows

Files = dict[str, bytes | None]  # the content of each file by its name; None if there is nothing to write


def write_report(evidence: Path, out: Path) -> Report:
    """Write the report on a folder of evidence records into the folder `out`: all of its files, or none if an error
    occurs.

    Returns the report, with the paths of its files. Raises FileNotFoundError if the folder `evidence` does not exist,
    ValueError if it holds no record that can be shown, and BlockingIOError while another process writes a report into
    `out`.
    """
    records, complaints = read_folder(evidence)
    complaints = [complaint.replace(f"{evidence}/", "") for complaint in complaints]
    shown = [record for record in records if _presentable(record, complaints)]
    if not shown:
        raise ValueError("; ".join([f"no evidence of twoview in {evidence}", *complaints]))
    with alone(out / "index.html", "the report"):
        shown_images = images(select(Run, shown), evidence, complaints)
        report, files = _made_of_most(shown, shown_images, complaints)
        written = {name: content for name, content in files.items() if content is not None}
        with ExitStack() as all_written:
            for name, content in written.items():
                all_written.enter_context(whole_file(out / name)).write_bytes(content)
        for name in files.keys() - written.keys():  # written by an older report on records that no longer exist
            (out / name).unlink(missing_ok=True)
    return replace(report, files={name: out / name for name in written})


def _made_of_most(
    records: Sequence[AnyRecord], shown_images: Sequence[Image], complaints: list[str]
) -> tuple[Report, Files]:
    """Return the report on all records. If that fails, skip the records that cause it, with a complaint about each."""
    try:
        return _made(records, shown_images, complaints)
    except Exception:  # any error of any record: the search below finds the record and reports the error
        kept = _joined([], records, lambda some: _made(some, shown_images, []), complaints)
    return _made(kept, shown_images, complaints)


def _joined(
    kept: list[AnyRecord],
    group: Sequence[AnyRecord],
    make: Callable[[Sequence[AnyRecord]], object],
    complaints: list[str],
) -> list[AnyRecord]:
    """Return `kept` and the records of `group` for which `make` succeeds, and append a complaint about each other
    record.

    A group that fails is halved, so few calls of `make` find the records that cause the failure.
    """
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


def _made(
    records: Sequence[AnyRecord], shown_images: Sequence[Image], complaints: Sequence[str]
) -> tuple[Report, Files]:
    """Return the report and the content of its files. Nothing is written."""
    report = report_of(records, shown_images, complaints)
    tables = {name: table for name, table in report.tables.items() if name not in NO_CSV}
    return report, {
        "leaderboard.parquet": tables["leaderboard"].parquet(),
        "leaderboard.md": leaderboard_text(report.tables["summary"]).encode(),
        "index.html": page.render(report).encode(),
        **{
            f"{name}.csv": table.csv().encode() if name in ALWAYS or len(table.frame) else None
            for name, table in tables.items()
        },
    }


def _presentable(record: AnyRecord, complaints: list[str]) -> bool:
    """Return whether the tables of a record's kind can be made from it alone; if not, add a complaint that says why.

    A valid record can fail here, for example if its recipe lacks a key that a table shows. The check is fast.
    """
    try:
        for one in RECORD_TABLES.values():
            if isinstance(record, one.kinds):
                one.table([record])
    except Exception as error:  # whatever the error is, this record caused it
        complaints.append(_sentence(record, error))
        return False
    return True


def _sentence(record: AnyRecord, error: Exception) -> str:
    """Return the complaint about a record that cannot be shown."""
    return f"{record.name}.json cannot be shown: {reason(error)}"
