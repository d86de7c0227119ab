"""Checkpoints: written atomically, the newest ones kept, loaded without running code that they may contain.

The newest is NAME.pt, the ones before it are NAME.1.pt, NAME.2.pt, ... A checkpoint may come from anywhere, so `load`
distrusts it: it uses torch's `weights_only=True`, compares the CRC-32 that torch stores of every record before it uses
any, compares the sizes that a file claims with its true size before it allocates memory, and checks the tables of a
checkpoint of twoview against one schema, `State`.
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

KEPT = 2  # number of checkpoints kept of a run
SAID = (
    8  # most bytes that a file's tensors may claim, in multiples of its size; above 1, because some share their storage
)
KEY = 1000  # most characters in the name of a weight
HEADER = 2**25  # most bytes in the header of a safetensors file
NUMBERS = frozenset((type(None), bool, int, float, complex, str, bytes))  # plain types that contain no other values
PLAIN = NUMBERS | {OrderedDict}  # OrderedDict: the state dict of a module


def save(path: Path, state: dict[str, Any], kept: int = KEPT) -> None:
    """Write tensors and plain values to a checkpoint, and keep the `kept` newest checkpoints with that name.

    NumPy's scalars are written as Python's. If the call fails, the old files stay as they are. Raises OSError, naming
    the file, if the disk is full, and ValueError, naming the key, for a value that `load` would refuse.
    """
    # torch.save writes to memory first: on a full disk it raises a RuntimeError that names neither file nor reason.
    buffer = io.BytesIO()
    torch.save({key: _plain(value, f"{path}: {key}") for key, value in state.items()}, buffer)
    with whole_file(path) as part:
        with open(part, "wb") as file:
            file.write(buffer.getbuffer())
            os.fsync(file.fileno())  # the content is on the disk before the file gets its name
        for age in range(kept - 1, 0, -1):
            if _older(path, age - 1).exists():
                _also_known_as(_older(path, age - 1), _older(path, age))


Key = Annotated[str, Field(max_length=KEY)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, lt=1e18, allow_inf_nan=False)]


class Table(BaseModel):
    """A table of a checkpoint: types are checked strictly, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class History(Table):
    """The measurements of a run so far, as a checkpoint stores them: times of epochs and steps, losses, logged values.

    The fields are those of `twoview.methods.trainer.History`. Checkpoints of older versions have no `step_seconds`.
    """

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
                raise ValueError(f"{one} and {other} must have the same length, got {lengths[0]} and {lengths[1]}")
        return self


class Optimizer(Table):
    """The state dict of a torch optimizer."""

    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]]


class Random(Table):
    """The states of torch's random generators on one rank."""

    cpu: Tensor
    cuda: Tensor | None = None


class Reached(Table):
    """The position of the data loader in the run. Loaders other than twoview's may add keys of their own."""

    model_config = ConfigDict(extra="allow")

    epoch: Count
    batches: Count
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    images: Count = 0
    global_batch: Count = 0
    data: str | None = None


class Measured(Table):
    """The measurements of a finished run, for its evidence record."""

    training: dict[str, Any]
    ceilings: dict[str, Any] | None


class State(Table):
    """The schema of a checkpoint: recipe, weights and epoch, the state that training resumes from, and measurements.

    Only recipe, weights and epoch are required.
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
            raise ValueError("must be omitted, not set to None")
        return table

    @model_validator(mode="after")
    def _of_the_same_epoch(self) -> Self:
        if self.history and len(self.history.epoch_seconds) != self.epoch:
            raise ValueError(f"epoch is {self.epoch}, but history ends after epoch {len(self.history.epoch_seconds)}")
        if self.random is not None and self.world is not None and len(self.random) != self.world:
            raise ValueError(f"random must have one entry for each of the {self.world} ranks, got {len(self.random)}")
        return self


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint of twoview onto the CPU and check it against `State`.

    Raises FileNotFoundError if there is none, and ValueError naming the file if it is damaged or was not written by
    twoview.
    """
    check_size(path)
    try:
        with open_archive(path) as records:
            if damaged := records.testzip():
                raise ValueError(f"the checksum of its {damaged} differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_tensors(state, path)
    except OSError as error:
        if error.filename:  # an error of the system, such as a missing permission, and not of the file's content
            raise
        raise ValueError(_unreadable(path, error)) from None
    except pickle.UnpicklingError:  # torch's own message advises to run the code in the file
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
    """Open a file of torch.save, which is a zip archive of uncompressed records.

    Raises zipfile.BadZipFile if it is not a zip archive, and ValueError if a record is compressed or if the records
    claim more bytes than the file has.
    """
    archive = zipfile.ZipFile(path)
    try:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its {record.filename} is compressed, and torch.save compresses nothing")
        said = sum(record.file_size for record in archive.infolist())
        if said > path.stat().st_size:
            raise ValueError(f"its records claim {said:,} bytes, but the file has {path.stat().st_size:,}")
    except ValueError:
        archive.close()
        raise
    return archive


def check_size(path: Path) -> None:
    """Raise FileNotFoundError if there is no such file, and ValueError if it is larger than a checkpoint may be."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    CHECKPOINT_BYTES.check(path.stat().st_size, str(path))


def check_header(path: Path) -> None:
    """Raise ValueError if a safetensors file claims a header longer than the file or than `HEADER`."""
    with open(path, "rb") as file:
        said = int.from_bytes(file.read(8), "little")  # the format begins with the length of the header
    if said > min(HEADER, path.stat().st_size):
        raise ValueError(f"its header claims {said:,} bytes, but the file has {path.stat().st_size:,}")


def check_tensors(content: Any, path: Path) -> None:
    """Raise ValueError for tensors that no checkpoint needs.

    These are tensors that are sparse, quantized or not on the CPU, and tensors that claim many times the bytes of the
    file, such as one number expanded to a billion.
    content: what was read from the file at `path`, with lists and dictionaries at any depth.
    """
    left, seen, said = [content], set(), 0
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise ValueError(
                    f"it holds a tensor of {value.layout} on {value.device}; all must be dense, unquantized, on the CPU"
                )
            said += value.numel() * value.element_size()
        elif isinstance(value, dict | list | tuple | set | frozenset) and id(value) not in seen:
            seen.add(id(value))
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            if not NUMBERS.issuperset(map(type, parts)):  # skips the history's lists of millions of numbers
                left += parts
    if said > min(SAID * path.stat().st_size, CHECKPOINT_BYTES.value):
        raise ValueError(f"its tensors claim {said:,} bytes, but the file has {path.stat().st_size:,}")


def finite(tensor: Tensor) -> bool:
    """Whether all values of a tensor of any dtype are finite."""
    return bool((tensor.float() if tensor.is_floating_point() else tensor).isfinite().all())


def _plain(value: Any, name: str) -> Any:
    """Return the value with NumPy's scalars replaced by Python's, the only ones that `load` accepts.

    name: its file and dotted key, for the ValueError that is raised for a value that `load` would refuse.
    """
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {_plain(key, name): _plain(each, f"{name}.{key}") for key, each in value.items()}
    if type(value) in (list, tuple):
        if PLAIN.issuperset(map(type, value)):  # fast for the history's lists of millions of numbers
            return value
        return type(value)(_plain(each, name) for each in value)
    if not isinstance(value, torch.Tensor) and type(value) not in PLAIN:
        raise ValueError(f"{name} must be a tensor or a plain value, got {type(value).__name__}")
    return value


def _unreadable(path: Path, error: Exception | str) -> str:
    """Return the sentence that says what the file is instead of a checkpoint of twoview, or what is wrong with it."""
    return f"{path} cannot be read as a checkpoint: {looks_like(path) or reason_of(error)}"


def reason_of(error: Exception | str) -> str:
    """Return the first line of an error of torch or another library, without torch's advice to run code in the file."""
    first = str(error).partition("\n")[0]
    if "weights_only" in first or "weights only" in first.lower():
        return "it is damaged, or holds more than tensors and plain values"
    return first[:MOST] or type(error).__name__


def looks_like(path: Path) -> str:
    """Return a clause that says what a file is instead of a checkpoint; an empty text if that is unknown."""
    with open(path, "rb") as file:
        start = file.read(1024)
    safetensors = path.suffix == ".safetensors"
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "it is a Git LFS pointer, and `git lfs pull` gets the real file"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|!--|html|head)", start, re.IGNORECASE):
        return "it is a web page, perhaps because the download needs a login or a confirmation"
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
        return "it is a text file"
    return ""


def _names_in(archive: Path) -> list[str]:
    """Return the names of the records of a zip archive; an empty list if the archive is damaged."""
    try:
        with zipfile.ZipFile(archive) as records:
            return records.namelist()
    except Exception:  # zipfile, struct and codecs have errors of their own for damaged files
        return []


def load_newest(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest intact checkpoint of a run, and a sentence for each newer one that is damaged.

    The first is None if there is no checkpoint. Raises ValueError if there are checkpoints but all are damaged.
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
    """Return the path of the checkpoint that is `age` saves older than the newest one."""
    return path if age == 0 else path.with_name(f"{path.stem}.{age}{path.suffix}")


def _also_known_as(path: Path, other: Path) -> None:
    """Give a file a second name, replacing the file that had it. At no moment is either name missing."""
    temporary = other.with_name(f".{other.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError as error:
        if error.errno not in NO_LINKS:  # a file system without hard links gets a copy
            raise
        shutil.copyfile(path, temporary)
    os.replace(temporary, other)
