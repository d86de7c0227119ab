"""A folder of evidence -> leaderboard.csv, a CSV of each other table, and index.html.

A record that is valid and yet cannot be shown is left out by name, and the others are shown.
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
from twoview.reports.reconstructions import Picture, pictures

NO_CSV = ("summary", "required")  # what they say of is in other tables, row by row
ALWAYS = ("leaderboard", "budget", "claims")  # written without rows too; of any other table there is no CSV then

Files = dict[str, bytes | None]  # by name; None: there is nothing to write


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
        beside = pictures(select(Run, shown), evidence, complaints)
        report, files = _made_of_most(shown, beside, complaints)
        written = {name: content for name, content in files.items() if content is not None}
        with ExitStack() as all_written:
            for name, content in written.items():
                all_written.enter_context(whole_file(out / name)).write_bytes(content)
        for name in files.keys() - written.keys():  # an older report's, of records that are there no more
            (out / name).unlink(missing_ok=True)
    return replace(report, files={name: out / name for name in written})


def _made_of_most(
    records: Sequence[AnyRecord], beside: Sequence[Picture], complaints: list[str]
) -> tuple[Report, Files]:
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


def _made(records: Sequence[AnyRecord], beside: Sequence[Picture], complaints: Sequence[str]) -> tuple[Report, Files]:
    """What a report says, and its files, before any of them is written."""
    report = report_of(records, beside, complaints)
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
    """Whether the tables of its kind can be made of it, which takes no time; if not, why: a valid record may lack half
    its recipe.
    """
    try:
        for one in RECORD_TABLES.values():
            if isinstance(record, one.kinds):
                one.table([record])
    except Exception as error:  # whatever it is, it is this record's
        complaints.append(_sentence(record, error))
        return False
    return True


def _sentence(record: AnyRecord, error: Exception) -> str:
    return f"{record.name}.json cannot be shown: {reason(error)}"
