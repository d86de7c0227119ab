"""Datasets of other libraries, by the names they have there: `torchvision:SVHN`, `hf:OWNER/NAME` (Hugging Face)."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twoview.loaders.datasets.declaration import NEEDS_A_ROOT, Dataset, Split
from twoview.loaders.datasets.samples import Samples, as_stored, read_image
from twoview.loaders.errors import reason
from twoview.loaders.files import bytes_of
from twoview.loaders.images import naming, restrain_pillow
from twoview.loaders.limits import IMAGE_BYTES
from twoview.loaders.names import checked_name, look_up
from twoview.loaders.storage import PLAIN, Storage

_TEST = ("test", "val", "valid", "validation")  # names that libraries give the held-out split, the preferred one first


def torchvision_dataset(name: str) -> Dataset:
    """Return a classification dataset of torchvision. Raises ValueError with the nearest names if there is none."""
    import torchvision.datasets

    known = {each: getattr(torchvision.datasets, each) for each in torchvision.datasets.__all__}
    kind = look_up("torchvision dataset", name, known)
    full = f"torchvision:{name}"

    def read(root: Path | None, split: Split) -> Samples:
        if root is None:
            raise FileNotFoundError(f"{full} {NEEDS_A_ROOT}")
        restrain_pillow()
        try:
            return _samples(_open(kind, root, split, False), full, f"{root}, read by torchvision's {name}")
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(f"{full} is not in {root}, or is damaged: {reason(error)}") from None

    def get(root: Path | None) -> None:
        if root is None:
            raise FileNotFoundError(f"{full} {NEEDS_A_ROOT}")
        try:
            for split in ("train", "test"):
                _open(kind, root, split, True)
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(f"downloading {full} into {root} failed: {reason(error)}") from None

    return Dataset(
        name=full,
        count=None,
        sizes={"train": None, "test": None},
        layout=(),
        license="see its authors",
        origin=f"torchvision.datasets.{name}",
        read=read,
        get=get if "download" in inspect.signature(kind).parameters else None,
        by_hand="" if "download" in inspect.signature(kind).parameters else f"see torchvision.datasets.{name}'s page",
    )


def _open(kind: Any, root: Path, split: Split, download: bool) -> Any:
    """Open a split of a torchvision dataset, through its argument `train` or `split`, whichever it has.

    Raises ValueError if it has neither, lacks that split, or needs more arguments.
    """
    arguments = inspect.signature(kind).parameters
    options: dict[str, Any] = {"download": download} if "download" in arguments else {}
    needed = [name for name, one in arguments.items() if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    if more := ", ".join(name for name in needed if name not in ("root", "train", "split")):
        raise ValueError(
            f"torchvision.datasets.{kind.__name__} cannot be opened as an image classification dataset: "
            f"it needs the arguments {more}"
        )
    if "train" in arguments:
        return kind(str(root), train=split == "train", **options)
    if "split" not in arguments:
        raise ValueError(f"torchvision.datasets.{kind.__name__} must take an argument train or split, got neither")
    refusals = []
    for called in ("train",) if split == "train" else _TEST:
        try:
            return kind(str(root), split=called, **options)
        except ValueError as error:  # torchvision raises it for a split that does not exist
            refusals.append(str(error))
    raise ValueError(f"torchvision.datasets.{kind.__name__} has no split {split!r}: {refusals[0]}")


def hugging_face_dataset(name: str) -> Dataset:
    """Return an image classification dataset of the Hugging Face hub, named NAME or OWNER/NAME there.

    Raises ValueError if the name is invalid. Reading it raises ImportError if the package `datasets` is not installed.
    """
    full = f"hf:{name}"
    for part in name.split("/", 1):
        checked_name("Hugging Face dataset", part)

    def read(root: Path | None, split: Split) -> Samples:
        restrain_pillow()
        for called in _called_on_hugging_face(name, split):
            rows = _open_hugging_face(name, called)
            image, label = (_column(full, rows.features, kind) for kind in ("Image", "ClassLabel"))
            labels = np.asarray(rows[label], np.int64)
            if (labels >= 0).any():
                break  # a split whose labels are not public has -1 for all of them; then try the next name
        files = rows.select_columns([image]).cast_column(image, _hugging_face(name).Image(decode=False))

        def stored(index: int, storage: Storage = PLAIN) -> np.ndarray | bytes:
            row, what = files[index][image], f"sample {index} of {full}"
            return as_stored(row["bytes"], what, storage) if row["bytes"] else read_image(Path(row["path"]), storage)

        return Samples(stored, labels, f"Hugging Face's {name}", large=stored)

    def names() -> Sequence[str]:
        features = _open_hugging_face(name, *_called_on_hugging_face(name, "train")).features
        return list(features[_column(full, features, "ClassLabel")].names)

    return Dataset(
        name=full,
        count=None,
        names=names,
        sizes={"train": None, "test": None},
        layout=(),
        license=f"see https://huggingface.co/datasets/{name}",
        origin=f"https://huggingface.co/datasets/{name}",
        read=read,
        by_hand="the package `datasets` downloads it when it is first used",
    )


def _hugging_face(name: str) -> Any:
    """Import the package `datasets`. Raises ImportError, saying how to install it, if it is missing."""
    try:
        import datasets
    except ImportError:
        raise ImportError(f"hf:{name} needs Hugging Face's package: pip install datasets") from None
    return datasets


def _called_on_hugging_face(name: str, split: Split) -> list[str]:
    """Return the names under which the hub may have the split, the preferred one first.

    Raises ValueError if it has none.
    """
    known = _hugging_face(name).get_dataset_split_names(name)
    called = [each for each in (_TEST if split == "test" else (split,)) if each in known]
    if not called:
        raise ValueError(f"hf:{name} has no split {split!r}: its splits are {', '.join(known)}")
    return called


def _open_hugging_face(name: str, called: str) -> Any:
    return _hugging_face(name).load_dataset(name, split=called)


def _column(full: str, features: Any, kind: str) -> str:
    """Return the name of the only column of a kind, Image or ClassLabel.

    Raises ValueError unless there is exactly one.
    """
    found = [column for column, feature in features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        raise ValueError(
            f"{full} has {len(found)} columns of kind {kind}, not one: its columns are {', '.join(features)}"
        )
    return str(found[0])


def _samples(opened: Any, full: str, source: str) -> Samples:
    """Return the samples of an opened torchvision dataset. Raises ValueError if its labels are not class numbers."""
    # Most datasets have all labels in an attribute. In the others, every sample must be read to get its label.
    for attribute in ("targets", "labels", "_labels"):
        labels = getattr(opened, attribute, None)
        if labels is not None and len(labels) == len(opened):
            break
    else:
        with naming(f"a sample of {full}"):
            labels = [opened[index][1] for index in range(len(opened))]
    try:
        labels = np.asarray(labels)
    except (ValueError, TypeError):  # labels of several shapes make no array
        labels = np.empty(0)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"the labels of {full} must be class numbers, one whole number per image")
    return Samples(_images(full, opened), labels.astype(np.int64), source)


def _images(full: str, opened: Any) -> Callable[[int], np.ndarray | bytes]:
    """Return a function from a sample's index to its image, as `Samples.image` returns it.

    Most datasets of files read a file with their attribute `loader`, which is replaced, so that a JPEG keeps its bytes.
    The function raises ValueError, naming the dataset and the sample, for an image that cannot be read.
    """
    if hasattr(opened, "loader"):
        opened.loader = lambda path: bytes_of(Path(path), IMAGE_BYTES)

    def image(index: int) -> np.ndarray | bytes:
        what = f"sample {index} of {full}"
        with naming(what):
            found = opened[index][0]
            if not isinstance(found, bytes):
                return np.array(found.convert("RGB"))
        return as_stored(found, what)

    return image
