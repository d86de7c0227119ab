"""Checkpoints: one file, written whole or not at all, loaded without running code (`weights_only=True`)."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from loaders.files import whole_file


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values. OSError, naming the file, if the disk is full; the old file is kept then."""
    # Through memory: torch.save to a full disk raises a RuntimeError that names neither the file nor the reason.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with whole_file(path) as part:
        part.write_bytes(buffer.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU. FileNotFoundError, or ValueError naming a file that is none of ours."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if not zipfile.is_zipfile(path):  # torch's format; of other bytes its reader raises whatever they lead it to
        raise ValueError(f"{path} cannot be read as a checkpoint: it is damaged or something else")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from None
    if not isinstance(state, dict) or not {"recipe", "method", "epoch"} <= state.keys():
        raise ValueError(f"{path} is not a checkpoint of twoview")
    return state
