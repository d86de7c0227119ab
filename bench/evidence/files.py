"""Records as files: written once, whole and sealed, never rewritten; read only as what was written."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twoview.bench.evidence.records import ADAPTER, AnyRecord, bounded, checked_name
from twoview.bench.measurement.calibration import Calibration
from twoview.bench.measurement.environment import frequencies
from twoview.loaders.errors import MOST
from twoview.loaders.files import bytes_of, whole_file
from twoview.loaders.limits import RECORD_BYTES
from twoview.methods.settings import first_fault

CALIBRATION_ROUNDS = 5


def path_of(folder: Path, name: str) -> Path:
    """Of the record of that name. ValueError if it cannot be the name of one."""
    return folder / f"{checked_name(name)}.json"


def checksum(content: dict[str, Any]) -> str:
    """SHA-256 of a record's content without its own `sha256`: as JSON with sorted keys, no spaces, in ASCII."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write(record: AnyRecord, folder: Path) -> Path:
    """Writes the record into the folder, with the machine's calibration and its checksum.

    FileExistsError if one of that name is there, or another process is first: evidence is never rewritten.
    """
    path = path_of(folder, record.name)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} must be a folder of evidence, and is a file")
    if path.exists():
        raise FileExistsError(f"{path} exists; evidence is never rewritten")
    with Calibration() as work:
        seconds = [work.seconds() for _ in range(CALIBRATION_ROUNDS)]
    try:
        with whole_file(path, first=True) as part:
            part.write_text(_sealed(record.model_copy(update={"calibration_seconds": seconds, "mhz": frequencies()})))
    except FileExistsError:
        raise FileExistsError(f"{path} exists; evidence is never rewritten") from None
    return path


def write_part(record: AnyRecord, folder: Path) -> Path:
    """Writes what there is of a record whose measurement goes on, in the place of what there was of it before.

    Nothing is calibrated, which would disturb the measurement.
    """
    path = path_of(folder, record.name)
    with whole_file(path) as part:
        part.write_text(_sealed(record))
    return path


def _sealed(record: AnyRecord) -> str:
    """As JSON with its checksum."""
    content = json.loads(record.model_copy(update={"sha256": None}).model_dump_json())
    bounded(content)
    return json.dumps(content | {"sha256": checksum(content)}, indent=1) + "\n"


def read(path: Path) -> AnyRecord:
    """Reads one record. ValueError, naming the file, if it is damaged or not ours, or asks for more than the limits."""
    text = bytes_of(path, RECORD_BYTES)
    try:
        record = ADAPTER.validate_json(text)
        content = json.loads(text)
        bounded(content)
    except ValidationError as error:
        raise ValueError(f"{path} is not an evidence record of twoview: {first_fault(error)}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not an evidence record of twoview: {error}") from None
    if record.name != path.stem:
        raise ValueError(f"{path} holds the record {record.name}: a copy, or renamed")
    if record.schema_version > 1 and record.sha256 != checksum(content):
        raise ValueError(f"{path} is damaged: its checksum is not that of its content")
    return record


def read_folder(folder: Path) -> tuple[list[AnyRecord], list[str]]:
    """All records of a folder and its subfolders, and one sentence for each file that is damaged or foreign."""
    records, complaints = [], []
    for path in paths(folder):
        try:
            records.append(read(path))
        except (ValueError, OSError) as error:
            complaints.append(reason(error))
    return records, complaints


def reason(error: Exception) -> str:
    """What went wrong with a record, on one line and without what Python puts in front of it."""
    if isinstance(error, ValidationError):
        return first_fault(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__} {text[:MOST]}".rstrip()


def paths(folder: Path) -> list[Path]:
    """Of all that may be records, in order. FileNotFoundError without the folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of evidence at {folder}")
    return sorted(folder.rglob("*.json"))
