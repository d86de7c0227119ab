"""The encoder in a checkpoint, and the files in which other code can load it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from twoview.bench.config.experiment import evaluated, normalize_for, run_name, trained_method
from twoview.bench.config.recipe import Recipe, parse
from twoview.bench.evidence import Training, trained
from twoview.bench.export import graphs
from twoview.bench.export.architectures import Architecture, Library, architecture, library_for
from twoview.methods import checkpoint
from twoview.methods.encoder import Encoder

Format = Literal["safetensors", "pt2", "onnx"]
# Format -> name of its file in the exported folder.
FILES: dict[Format, str] = {"safetensors": "model.safetensors", "pt2": "model.pt2", "onnx": "model.onnx"}


@dataclass(frozen=True)
class Exported:
    """An encoder that is ready to be written.

    name: name of the training run, with its seed.
    encoder: the network, in eval mode, on the CPU.
    momentum: whether it is the moving average of the trained network.
    probed: whether it is the network that the probes evaluate.
    recipe: the recipe that it was trained with.
    epoch: number of epochs that it was trained for.
    training: what the training run measured, or None if it is not finished.
    library: the library whose key names the weights have. architecture: how that library builds the network.
    """

    name: str
    encoder: Encoder
    momentum: bool
    probed: bool
    recipe: Recipe[Any]
    epoch: int
    training: Training | None
    library: Library
    architecture: Architecture


def exported(path: Path, library: Library | None = None, momentum: bool = False) -> Exported:
    """Return the encoder in a checkpoint of `twoview train`, finished or not, ready to be written.

    library: the library whose key names the weights get; by default `library_for` decides. momentum: take the moving
    average of the encoder, instead of the network that the probes evaluate.
    Raises ValueError if the file is not such a checkpoint, if the library does not have the backbone, or if the method
    has no moving average.
    """
    state = checkpoint.load(path)
    recipe = parse(state["recipe"], str(path))
    method = trained_method(recipe, state["method"], path)
    encoder = evaluated(recipe, method, momentum)
    library = library or library_for(recipe.backbone)
    made = architecture(encoder, recipe.backbone, recipe.size, library)
    training = trained.measured(path, state)[0] if "measured" in state else None
    return Exported(
        name=run_name(recipe),
        encoder=encoder.eval(),
        momentum=encoder is method.averaged,
        probed=encoder is method.probed,
        recipe=recipe,
        epoch=state["epoch"],
        training=training,
        library=library,
        architecture=made,
    )


def write(subject: Exported, folder: Path, formats: Sequence[Format]) -> None:
    """Write the encoder into an existing folder, in each of the formats, under the names in `FILES`.

    Raises ImportError if a format needs a package that is not installed.
    """
    if "safetensors" in formats:
        _write_weights(subject, folder / FILES["safetensors"])
    if {"pt2", "onnx"} & set(formats):
        program = graphs.program(subject.encoder, normalize_for(subject.recipe), subject.recipe.size)
        if "pt2" in formats:
            torch.export.save(program, folder / FILES["pt2"])
        if "onnx" in formats:
            graphs.write_onnx(program, folder / FILES["onnx"])


def _write_weights(subject: Exported, path: Path) -> None:
    # safetensors refuses channels-last tensors and tensors that share memory, so each is copied.
    weights = {
        key: value.clone(memory_format=torch.contiguous_format) for key, value in subject.architecture.weights.items()
    }
    about = {"format": "pt", "run": subject.name, "keys": subject.library}
    save_file(weights, path, about)
