"""The command `export`: a trained encoder for other code to load."""

from pathlib import Path

from tyro.conf import Positional

from twoview.bench.export.architectures import Library
from twoview.bench.export.export import Format
from twoview.commands.output import show
from twoview.exporting import export


def run(
    checkpoint: Positional[Path],
    dest: Positional[Path],
    formats: tuple[Format, ...] = ("safetensors",),
    keys: Library | None = None,
    momentum: bool = False,
    evidence_dir: Path | None = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Write a trained encoder to a folder, for other code to load, with a model card that shows how.

    Args:
        checkpoint: a file that `twoview train` wrote.
        dest: folder to write; it is written atomically.
        formats: which files to write: safetensors, the weights alone; pt2, for torch.export.load; onnx.
        keys: library whose names the weights in safetensors get; by default torchvision for its ResNets, timm for
            ViTs and its own models, and twoview for networks that neither has.
        momentum: export the moving average of the encoder (momentum encoder or teacher) instead of the network that
            `twoview probe` evaluates.
        evidence_dir: folder of records from which the card takes the accuracies; by default OUT/evidence.
        force: replace dest if it holds an earlier export.
        json: print the result as JSON.
    """
    files = export(
        checkpoint, dest, formats=formats, keys=keys, momentum=momentum, evidence_dir=evidence_dir, force=force
    )
    sizes = {str(path): path.stat().st_size for path in files}
    show({"files": sizes}, json, "\n".join(f"{path}: {size:,} bytes" for path, size in sizes.items()))
