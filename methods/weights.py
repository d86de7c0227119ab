"""An encoder's weights in a file of any origin: read without running its code, and loaded only if every weight fits."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twoview.methods.checkpoint import (
    check_header,
    check_size,
    check_tensors,
    finite,
    looks_like,
    open_archive,
    reason_of,
)


def read(file: Path) -> Any:
    """Return the content of a file of torch.save or safetensors without running any code in it.

    Raises FileNotFoundError if the file does not exist. Raises ValueError if reading it would run code, if it is
    damaged, or if it is not a checkpoint; the error then says what the file looks like.
    """
    check_size(file)
    try:
        if file.suffix == ".safetensors":
            import safetensors.torch

            check_header(file)
            return safetensors.torch.load_file(file)
        if zipfile.is_zipfile(file):  # older versions of torch did not write archives
            open_archive(file).close()
        content = torch.load(file, map_location="cpu", weights_only=True)
        check_tensors(content, file)
        return content
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise ValueError(
                f"{file} holds more than tensors and plain values, and reading the rest would run its code: save its "
                "state_dict alone in a new file"
            ) from None
        why = "it is damaged, or was not written by torch.save"  # torch's own text suggests running the file's code
    except Exception as error:  # zipfile, torch and safetensors have errors of their own for damaged files
        why = reason_of(error)
    raise ValueError(f"{file} cannot be read as a checkpoint: {looks_like(file) or why}")


def is_own(content: Any) -> bool:
    """Return whether the content of a file is that of a checkpoint of `twoview train`."""
    return isinstance(content, dict) and {"recipe", "method", "epoch"} <= content.keys()


def fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the tensors into the module.

    Raises ValueError, naming the first key that is missing, unexpected, or has the wrong shape or a value that is not
    finite. Only BatchNorm's count of batches may be missing, since no encoder here uses it.
    """
    own = module.state_dict()
    for key, tensor in own.items():
        if key not in tensors and not key.endswith("num_batches_tracked"):
            raise ValueError(f"{key} is missing")
        if key in tensors and tensors[key].shape != tensor.shape:
            raise ValueError(f"{key} must have shape {tuple(tensor.shape)}, got {tuple(tensors[key].shape)}")
    for key in tensors:
        if key not in own:
            raise ValueError(f"{key} is unexpected")
    for key, tensor in tensors.items():
        if not finite(tensor):
            raise ValueError(f"{key} must be finite, got NaN or infinity")
    module.load_state_dict(own | tensors)
