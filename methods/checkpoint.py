"""Checkpoints: written whole or not at all, the newest ones kept, loaded without running code (`weights_only=True`).

The newest is NAME.pt, the ones before it NAME.1.pt, NAME.2.pt, ... torch stores a CRC-32 of everything in a file; it is
compared before anything is used.
"""

import io
import os
import pickle
import re
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loaders.files import NO_LINKS, whole_file

KEPT = 2
PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, OrderedDict))  # the last: a module's own state


def save(path: Path, state: dict[str, Any], kept: int = KEPT) -> None:
    """Writes tensors and plain values, NumPy's numbers as Python's. The old files are kept if it fails.

    OSError, naming the file, if the disk is full; ValueError, naming the key, for what `load` would not read.
    """
    # Through memory: torch.save to a full disk raises a RuntimeError that names neither the file nor the reason.
    buffer = io.BytesIO()
    torch.save({key: _plain(value, f"{path}: {key}") for key, value in state.items()}, buffer)
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
                raise ValueError(f"the checksum of its {damaged} differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.filename:  # it may not be read, or the disk fails
            raise
        raise ValueError(_unreadable(path, error)) from None
    except pickle.UnpicklingError:  # in its own words torch advises to run what the file holds
        raise ValueError(_unreadable(path, "it is damaged, or holds more than tensors and plain values")) from None
    except Exception as error:  # zipfile, zlib, struct, pickle and torch have errors of their own for damaged files
        raise ValueError(_unreadable(path, error)) from None
    if not isinstance(state, dict) or not {"recipe", "method", "epoch"} <= state.keys():
        raise ValueError(f"{path} is not a checkpoint of twoview")
    return state


def _plain(value: Any, name: str) -> Any:
    """The value with NumPy's numbers as Python's, whose types alone `load` knows. ValueError where it knows none."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {_plain(key, name): _plain(each, f"{name}.{key}") for key, each in value.items()}
    if type(value) in (list, tuple):
        if PLAIN.issuperset(map(type, value)):  # as the history's millions of numbers
            return value
        return type(value)(_plain(each, name) for each in value)
    if not isinstance(value, torch.Tensor) and type(value) not in PLAIN:
        raise ValueError(f"{name} must be a tensor or a plain value, got {type(value).__name__}")
    return value


def _unreadable(path: Path, error: Exception | str) -> str:
    """In words, of a checkpoint of ours: what the file is instead, or what is wrong with it."""
    reason = looks_like(path) or str(error).partition("\n")[0] or type(error).__name__
    return f"{path} cannot be read as a checkpoint: {reason}"


def looks_like(path: Path) -> str:
    """What a file is instead of a checkpoint, in words; empty where that cannot be told."""
    with open(path, "rb") as file:
        start = file.read(1024)
    safetensors = path.suffix == ".safetensors"
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "it is a Git LFS pointer, and `git lfs pull` gets the file that it stands for"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|!--|html|head)", start, re.IGNORECASE):
        return "it is a web page, as a download leaves it that needs a login or a confirmation"
    if start[8:9] == b"{" and not safetensors:
        return "it is a safetensors file, whose name must end in .safetensors"
    if start.startswith(b"\x1f\x8b"):
        return "it is compressed by gzip, and must be unpacked first"
    if start.startswith(b"PK\x03\x04"):
        names = _names_in(path)
        if not names:
            return "it is cut off, or damaged"
        if not any(name.endswith("data.pkl") for name in names):
            return "it is a zip archive that holds no checkpoint"
        return "it is a file of torch.save, whose name must not end in .safetensors" if safetensors else ""
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "it is a text"
    return ""


def _names_in(archive: Path) -> list[str]:
    """Of a zip archive's records; none where it is damaged."""
    try:
        with zipfile.ZipFile(archive) as records:
            return records.namelist()
    except Exception:  # zipfile, struct and codecs have errors of their own for damaged files
        return []


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
    try:
        os.link(path, temporary)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(path, temporary)
    os.replace(temporary, other)
