"""Checkpoints: written whole or not at all, the newest ones kept, loaded without running code (`weights_only=True`).

The newest is NAME.pt, the ones before it NAME.1.pt, NAME.2.pt, ... torch stores a CRC-32 of everything in a file; it is
compared before anything is used. What a file says of its size is compared with its size before memory is taken, and the
tables of a checkpoint of ours have one schema, which is checked as they come in.
"""

import io
import os
import pickle
import re
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from torch import Tensor

from twoview.loaders.errors import MOST
from twoview.loaders.files import NO_LINKS, whole_file
from twoview.loaders.limits import CHECKPOINT_BYTES
from twoview.methods.precision import Precision
from twoview.methods.settings import first_fault

KEPT = 2
SAID = 8  # times the bytes of a file, that its tensors may say they have: some share their numbers
KEY = 1000  # characters of a weight's name
HEADER = 2**25  # bytes of a safetensors file's
NUMBERS = frozenset((type(None), bool, int, float, complex, str, bytes))  # what holds nothing else
PLAIN = NUMBERS | {OrderedDict}  # a module's own state


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


Key = Annotated[str, Field(max_length=KEY)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, lt=1e18, allow_inf_nan=False)]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class History(Table):
    """As `twoview.methods.trainer.History`. One of an older version has no seconds of steps."""

    epoch_seconds: list[Seconds]
    wait_seconds: list[Seconds]
    losses: list[Annotated[float, Field(allow_inf_nan=False)]]
    step_seconds: list[Seconds] = []
    logged: dict[str, list[float]] = {}
    open_seconds: Seconds = 0.0
    open_wait: Seconds = 0.0
    open_logged: dict[str, Annotated[list[float], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _of_the_same_steps(self) -> Self:
        for one, other in (("epoch_seconds", "wait_seconds"), ("losses", "step_seconds")):
            lengths = len(getattr(self, one)), len(getattr(self, other))
            if lengths[0] != lengths[1] and getattr(self, other):
                raise ValueError(f"{one} and {other} must be of one length, got {lengths[0]} and {lengths[1]}")
        return self


class Optimizer(Table):
    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]]


class Random(Table):
    cpu: Tensor
    cuda: Tensor | None = None


class Reached(Table):
    """The loader's state. Another loader than ours may add what it needs."""

    model_config = ConfigDict(extra="allow")

    epoch: Count
    batches: Count
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    images: Count = 0
    global_batch: Count = 0
    data: str | None = None


class Measured(Table):
    training: dict[str, Any]
    ceilings: dict[str, Any] | None


class State(Table):
    """A checkpoint's tables: recipe, weights and epoch; what a training goes on from; what was measured at its end. Of
    these some may be absent.
    """

    recipe: dict[str, Any]
    method: dict[Key, Tensor]
    epoch: Count
    world: PositiveInt | None = None
    precision: Precision | None = None
    optimizer: Optimizer | None = None
    scaler: dict[str, float] | None = None
    loader: Reached | None = None
    random: list[Random] | None = None
    history: History | None = None
    measured: Measured | None = None

    @field_validator("world", "precision", "optimizer", "scaler", "random", "history", "measured")
    @classmethod
    def _is_one(cls, table: Any) -> Any:
        if table is None:
            raise ValueError("must be left out where there is none, got None")
        return table

    @model_validator(mode="after")
    def _of_the_same_epoch(self) -> Self:
        if self.history and len(self.history.epoch_seconds) != self.epoch:
            raise ValueError(f"epoch is {self.epoch}, and its history is of {len(self.history.epoch_seconds)}")
        if self.random is not None and self.world is not None and len(self.random) != self.world:
            raise ValueError(f"random must be of {self.world} ranks, as world says, got {len(self.random)}")
        return self


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU. FileNotFoundError, or ValueError naming a file that is damaged or not ours."""
    check_size(path)
    try:
        with open_archive(path) as records:
            if damaged := records.testzip():
                raise ValueError(f"the checksum of its {damaged} differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_tensors(state, path)
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
    try:
        State.model_validate(state)
    except ValidationError as error:
        raise ValueError(f"{path} is not a checkpoint of twoview: {first_fault(error)}") from None
    return state


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip archive as torch.save writes it. zipfile.BadZipFile; ValueError where it says that it
    holds more than the file can, which no archive does whose records are as they are in memory.
    """
    archive = zipfile.ZipFile(path)
    try:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its {record.filename} is compressed, and torch.save compresses nothing")
        said = sum(record.file_size for record in archive.infolist())
        if said > path.stat().st_size:
            raise ValueError(f"its records say that they have {said:,} bytes, and the file has {path.stat().st_size:,}")
    except ValueError:
        archive.close()
        raise
    return archive


def check_size(path: Path) -> None:
    """FileNotFoundError, or ValueError where the file is larger than a checkpoint may be."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    CHECKPOINT_BYTES.check(path.stat().st_size, str(path))


def check_header(path: Path) -> None:
    """Of a safetensors file: ValueError where it says that its header is longer than the file, or than any is."""
    with open(path, "rb") as file:
        said = int.from_bytes(file.read(8), "little")
    if said > min(HEADER, path.stat().st_size):
        raise ValueError(f"its header says that it has {said:,} bytes, and the file has {path.stat().st_size:,}")


def check_tensors(content: Any, path: Path) -> None:
    """ValueError for what a checkpoint has no use for: tensors without numbers of their own on this processor, or that
    say they have many times what the file has, as one number does that is expanded to a billion.

    content: what was read from the file, lists and tables of it at any depth.
    """
    left, seen, said = [content], set(), 0
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise ValueError(f"it holds a tensor of {value.layout} on {value.device}, which is no plain one")
            said += value.numel() * value.element_size()
        elif isinstance(value, dict | list | tuple | set | frozenset) and id(value) not in seen:
            seen.add(id(value))
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            if not NUMBERS.issuperset(map(type, parts)):  # as the history's millions
                left += parts
    if said > min(SAID * path.stat().st_size, CHECKPOINT_BYTES.value):
        raise ValueError(f"its tensors say that they have {said:,} bytes, and the file has {path.stat().st_size:,}")


def finite(tensor: Tensor) -> bool:
    """Whether all of its numbers are, whatever their type."""
    return bool((tensor.float() if tensor.is_floating_point() else tensor).isfinite().all())


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
    return f"{path} cannot be read as a checkpoint: {looks_like(path) or reason_of(error)}"


def reason_of(error: Exception | str) -> str:
    """An error of torch's or another library's in its own first line, but not its advice to run what the file holds."""
    first = str(error).partition("\n")[0]
    if "weights_only" in first or "weights only" in first.lower():
        return "it is damaged, or holds more than tensors and plain values"
    return first[:MOST] or type(error).__name__


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
