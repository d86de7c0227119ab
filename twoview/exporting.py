"""Writing a trained encoder for other code to load, from a script or by the command `export`."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from twoview.bench import evidence
from twoview.bench.export import export as exporting
from twoview.bench.export.architectures import Library
from twoview.bench.export.export import FILES, Format
from twoview.loaders.files import whole_folder
from twoview.reports import model_card

CARD = "README.md"


def export(
    checkpoint: str | PathLike[str],
    dest: str | PathLike[str],
    *,
    formats: Sequence[Format] = ("safetensors",),
    keys: Library | None = None,
    momentum: bool = False,
    evidence_dir: str | PathLike[str] | None = None,
    force: bool = False,
) -> list[Path]:
    """Write the encoder in a checkpoint to a folder, with a model card, and return the paths of the files.

    checkpoint: a file that `train` wrote.
    dest: the folder to write. It is written atomically.
    formats: any of `safetensors` (the weights alone), `pt2` (torch.export) and `onnx`. The last two include the
    normalization.
    keys: the library whose names the weights in `model.safetensors` get: `torchvision`, `timm` or `twoview`; by
    default torchvision for its ResNets, timm for ViTs and its own models, and twoview for the networks that neither
    has.
    momentum: export the moving average of the encoder (momentum encoder or teacher), not the network that is evaluated.
    evidence_dir: the folder of records from which the card takes the accuracies; by default OUT/evidence.
    force: replace `dest` if it holds nothing but an earlier export.

    Raises FileExistsError if `dest` exists and may not be replaced; ValueError if the library lacks the network, the
    method has no moving average or a record is damaged; and ImportError if ONNX needs a package that is missing.
    """
    path, folder = Path(checkpoint), Path(dest)
    unknown = [each for each in formats if each not in FILES]
    if unknown or not formats:
        raise ValueError(f"formats must be some of {', '.join(FILES)}, got {', '.join(map(str, formats)) or 'none'}")
    files: dict[str, str] = {each: name for each, name in FILES.items() if each in formats}
    _check_free(folder, force)
    subject = exporting.exported(path, keys, momentum)
    evidence_folder = Path(evidence_dir) if evidence_dir else path.parent.parent / "evidence"
    # Without `evidence_dir` the folder need not exist: the card then says that no accuracy has been recorded.
    records: list[evidence.AnyRecord] = []
    if evidence_dir or evidence_folder.is_dir():
        records, complaints = evidence.read_folder(evidence_folder)
        if complaints:
            raise ValueError(f"every record in {evidence_folder} must be valid, got {'; '.join(complaints)}")
    with whole_folder(folder) as scratch:
        exporting.write(subject, scratch, formats)
        (scratch / CARD).write_text(model_card.text(subject, records, files), encoding="utf-8")
    return [folder / name for name in (*files.values(), CARD)]


def _check_free(folder: Path, force: bool) -> None:
    """Raise an error if the folder exists, unless it may be replaced and holds nothing but an earlier export."""
    if not folder.exists():
        return
    if not force:
        raise FileExistsError(f"{folder} already exists: to replace it, use --force (force=True in Python)")
    if not folder.is_dir():
        raise FileExistsError(f"{folder} must be a folder to be replaced, got a file")
    others = {one.name for one in folder.iterdir()} - {*FILES.values(), CARD}
    if others:
        raise FileExistsError(f"{folder} must hold nothing but an earlier export to be replaced, got {min(others)}")
