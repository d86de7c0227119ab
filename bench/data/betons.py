"""The beton files (FFCV's format) of datasets: found or converted, and refused if they are of something else."""

from pathlib import Path
from typing import Literal

import numpy as np

from twoview.bench.config.contents import OwnData
from twoview.bench.data import own
from twoview.bench.data.conversion import convert, dataset_origin, say
from twoview.bench.data.inspection import left_out
from twoview.bench.runtime.cores import cpu_count
from twoview.loaders import beton, datasets


def dataset_beton(
    dataset: datasets.Dataset,
    split: datasets.Split,
    folder: Path,
    root: Path | None,
    download: bool = True,
    damaged: Literal["raise", "skip"] = "raise",
) -> beton.Beton:
    """Open the beton file of a dataset's split; convert the split first if the file is not in the folder yet.

    root: the data root, the folder of the user's datasets. damaged: "skip" skips images that cannot be read and
    prints their names.
    Raises FileNotFoundError if the dataset is not found and must not be downloaded. Raises ValueError if the file does
    not say that it holds this split, if the data root has other images now, or if a label is not a class of the
    dataset.
    """
    if isinstance(dataset, OwnData):
        return own.split_of(dataset, split, folder)
    dataset.check(split)
    name = dataset.name
    path = folder / f"{name}-{split}.beton"
    if not path.exists():
        samples = dataset.find(root, split) if download else dataset.read(root, split)
        unreadable: dict[int, str] | None = {} if damaged == "skip" else None
        convert(samples, path, f"{name} {split}", cpu_count(), unreadable, dataset_origin(dataset, split))
        for sentence in (unreadable or {}).values():
            say(f"skipped: {sentence}")
        file = beton.open_beton(path)
    else:
        file = beton.open_beton(path)
        _check_origin(file, dataset, split, root)
        if absent := left_out(file)[0]:
            say(f"{path} lacks {absent:,} images that could not be read: `twoview inspect --json` lists them")
    _check_labels(file, dataset, split)
    return file


def test_or_train(dataset: datasets.Dataset, folder: Path, root: Path | None) -> tuple[datasets.Split, beton.Beton]:
    """Return the split whose images show what an encoder does, and open its beton file as `dataset_beton` does.

    It is the test split, or the train split if there is no other, as for images without labels.
    """
    split: datasets.Split = "test" if "test" in dataset.sizes else "train"
    return split, dataset_beton(dataset, split, folder, root)


def _check_origin(file: beton.Beton, dataset: datasets.Dataset, split: datasets.Split, root: Path | None) -> None:
    """Raise ValueError unless the file says that it was converted from the dataset's split as it is now.

    A file whose images are not in the data root is accepted, since beton files may be copied without them. Raises
    FileNotFoundError if only some images exist.
    """
    recorded = file.about.get("dataset"), file.about.get("split")
    if recorded != (dataset.name, split):
        made_of = f"was converted from {recorded[0]}'s {recorded[1]} images" if recorded[0] else "does not say so"
        raise ValueError(
            f"{file.path} must be converted from {dataset.name}'s {split} images, but {made_of}: give it another name, "
            f"keep betons in another folder with --betons, or train on it as it is with --data {file.path}"
        )
    if file.about.get("listing") is None:
        return
    try:
        samples = dataset.read(root, split)
    except datasets.NotInRoot:
        return
    if samples.listing() != file.about["listing"]:
        count = len(file) + left_out(file)[0]
        raise ValueError(
            f"{file.path} is out of date: it was converted from {count:,} images, and {samples.source} has "
            f"{len(samples):,} with other names or labels now: delete the file, or use another folder with --betons"
        )


def _check_labels(file: beton.Beton, dataset: datasets.Dataset, split: datasets.Split) -> None:
    """Raise ValueError if a label is not a class of the dataset: a loss would fail, on a GPU without a clear error."""
    least = -1 if split == "unlabeled" else 0
    wrong = file.labels < least
    if dataset.count is not None:
        wrong |= file.labels >= dataset.count
    for sample in np.flatnonzero(wrong):
        bounds = f"{least} or more" if dataset.count is None else f"from {least} to {dataset.count - 1}"
        raise ValueError(
            f"{file.path}: labels of {dataset.name} must be {bounds}, got {file.labels[sample]} for sample {sample}"
        )


def identity(*files: beton.Beton) -> dict[str, str]:
    """Return what a record says about its data: each file's name -> the XXH64 of its index in hex.

    The index contains the hash of every sample, so this identifies the content. For a file that FFCV wrote, see
    `Beton.index`.
    """
    return {file.path.stem: f"{file.index:016x}" for file in files}
