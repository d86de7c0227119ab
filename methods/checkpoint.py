"""Checkpoints: written whole or not at all, the newest ones kept, loaded without running code (`weights_only=True`).

The newest is NAME.pt, the ones before it NAME.1.pt, NAME.2.pt, ... torch stores a CRC-32 of everything in a file; it is
compared before anything is used.
"""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from loaders.files import whole_file

KEPT = 2


def save(path: Path, state: dict[str, Any], kept: int = KEPT) -> None:
    """Writes tensors and plain values. OSError, naming the file, if the disk is full; the old files are kept then."""
    # Through memory: torch.save to a full disk raises a RuntimeError that names neither the file nor the reason.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with whole_file(path) as part:
        with open(part, "wb") as file:
            file.write(buffer.getbuffer())
            os.fsync(file.fileno())  # before the names change, so that they do it all at once
        for age in range(kept - 1, 0, -1):
            if _older(path, age - 1).exists():
                _also_known_as(_older(path, age - 1), _older(path, age))


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU. FileNotFoundError, or ValueError naming a file that is damaged or not ours."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as records:
            if damaged := records.testzip():
                raise ValueError(f"{path} cannot be read as a checkpoint: the checksum of its {damaged} differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from None
    if not isinstance(state, dict) or not {"recipe", "method", "epoch"} <= state.keys():
        raise ValueError(f"{path} is not a checkpoint of twoview")
    return state


def load_newest(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest intact one of a run's checkpoints, None if it has none, and a sentence for each that is damaged.

    ValueError if all that are there are damaged.
    """
    complaints: list[str] = []
    age = 0
    while (file := _older(path, age)).exists() or age == 0:
        try:
            return load(file), complaints
        except FileNotFoundError:
            pass
        except ValueError as error:
            complaints.append(str(error))
        age += 1
    if complaints:
        raise ValueError("; ".join(complaints))
    return None, complaints


def _older(path: Path, age: int) -> Path:
    return path if age == 0 else path.with_name(f"{path.stem}.{age}{path.suffix}")


def _also_known_as(path: Path, other: Path) -> None:
    """A second name for a file, which takes the place of the file that had it; there is no moment without either."""
    temporary = other.with_name(f".{other.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    os.link(path, temporary)
    os.replace(temporary, other)
