"""Evidence records as files.

A record is written atomically with a checksum, and is never rewritten. Reading it checks that it is unchanged.
"""

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

CALIBRATION_ROUNDS = 5  # timings of the calibration work that are stored in each record


def path_of(folder: Path, name: str) -> Path:
    """Return the path of the record called `name`. Raises ValueError if `name` is not a valid record name."""
    return folder / f"{checked_name(name)}.json"


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256, in hex digits, of a record's content without its `sha256` key.

    The content is hashed as ASCII JSON with sorted keys and without spaces.
    """
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write(record: AnyRecord, folder: Path) -> Path:
    """Write the record into the folder and return its path.

    The record gets a checksum, the current clock rates, and the time that a fixed piece of work takes on this machine
    (its calibration). Raises FileExistsError if a record with this name exists or if another process writes it first,
    because evidence is never rewritten, and NotADirectoryError if `folder` is a file.
    """
    path = path_of(folder, record.name)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} must be a folder of evidence, got a file")
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
    """Write the current state of a record whose measurement is still running, and return its path.

    It replaces the state that was written before. The machine is not calibrated, since that would disturb the
    measurement.
    """
    path = path_of(folder, record.name)
    with whole_file(path) as part:
        part.write_text(_sealed(record))
    return path


def _sealed(record: AnyRecord) -> str:
    """Return the record as JSON text that includes its checksum."""
    content = json.loads(record.model_copy(update={"sha256": None}).model_dump_json())
    bounded(content)
    return json.dumps(content | {"sha256": checksum(content)}, indent=1) + "\n"


def read(path: Path) -> AnyRecord:
    """Read one record.

    Raises ValueError, naming the file, if it is damaged, is not an evidence record of twoview, or exceeds a size limit.
    """
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
        raise ValueError(f"{path} holds the record {record.name}: the file was copied or renamed")
    if record.schema_version > 1 and record.sha256 != checksum(content):
        raise ValueError(f"{path} is damaged: its checksum does not match its content")
    return record


def read_folder(folder: Path) -> tuple[list[AnyRecord], list[str]]:
    """Return all records of a folder and its subfolders, and one sentence for each file that cannot be read as one."""
    records, complaints = [], []
    for path in paths(folder):
        try:
            records.append(read(path))
        except (ValueError, OSError) as error:
            complaints.append(reason(error))
    return records, complaints


def reason(error: Exception) -> str:
    """Return what went wrong with a record on one line, without the prefix (such as `[Errno 2]`) that Python adds."""
    if isinstance(error, ValidationError):
        return first_fault(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__} {text[:MOST]}".rstrip()


def paths(folder: Path) -> list[Path]:
    """Return the sorted paths of all JSON files in a folder and its subfolders. Each file may be a record.

    Raises FileNotFoundError if the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of evidence at {folder}")
    return sorted(folder.rglob("*.json"))
