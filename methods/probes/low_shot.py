"""The low-shot probe: a linear probe on few labels, repeated with several draws of the labeled images."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from twoview.loaders.files import NUMBER, lines_of
from twoview.methods.probes.linear import logistic
from twoview.methods.probes.metrics import Metrics, metrics

SPLITS = 3  # draws of the labeled images, by default


def labeled_share(label: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw this share of each class, at least one image; return the sorted row numbers. label: int64 (N,)."""
    return _drawn(label, lambda images: max(1, round(share * images)), seed)


def labeled_per_class(label: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw `count` images of each class; return the sorted row numbers. Raises ValueError if a class has fewer."""
    names, sizes = np.unique(label, return_counts=True)
    if sizes.min() < count:
        scarce = int(sizes.argmin())
        raise ValueError(f"each class must have at least {count} images, got {sizes[scarce]} of class {names[scarce]}")
    return _drawn(label, lambda _: count, seed)


def _drawn(label: np.ndarray, count_of: Callable[[int], int], seed: int) -> np.ndarray:
    """Draw images of each class; return the sorted row numbers. count_of: images in the class -> images to draw."""
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]  # class by class, each in its random order
    members = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return np.sort(np.concatenate([rows[: count_of(len(rows))] for rows in members]))


def read_list(path: Path, images: int) -> np.ndarray:
    """Return the sample numbers in a file with one number per line, in the file's order.

    Raises ValueError, naming file and line, if a line is not a number below `images` or repeats an earlier one.
    """
    numbers: dict[int, None] = {}
    for place, line in enumerate(lines_of(path), 1):
        if not NUMBER.fullmatch(line.strip()) or int(line) >= images:
            raise ValueError(f"{path}: line {place} must be a sample number below {images:,}, got {line.strip()!r}")
        if int(line) in numbers:
            raise ValueError(f"{path}: line {place} must not repeat an earlier sample, got {int(line)}")
        numbers[int(line)] = None
    if not numbers:
        raise ValueError(f"{path} must list at least one sample number, got none")
    return np.fromiter(numbers, np.int64)


def low_shot(
    train: Tensor,
    train_label: Tensor,
    test: Tensor,
    test_label: Tensor,
    splits: Iterable[np.ndarray],
    classes: int,
    *,
    weight_decay: float,
) -> list[Metrics]:
    """Fit a logistic regression on the rows of each split, and return its metrics on `test`, one per split.

    train, test: features, (N, D) each, with int64 labels (N,). splits: for each draw, the numbers of the rows of
    `train` to fit on. classes, weight_decay: see `logistic`.
    """
    found = []
    for rows in map(torch.from_numpy, splits):
        head = logistic(train[rows], train_label[rows], classes, weight_decay=weight_decay)
        found.append(metrics(head.scores(test), test_label))
    return found


def mean(found: Sequence[Metrics]) -> Metrics:
    """Return the mean of each metric over the splits.

    The interval is the mean of the splits' intervals. That is the interval of the mean if all splits classify the same
    images correctly, and too wide otherwise.
    """
    return Metrics(
        top1=statistics.mean(one.top1 for one in found),
        top5=None if found[0].top5 is None else statistics.mean(one.top5 or 0.0 for one in found),
        per_class=tuple(
            None if values[0] is None else statistics.mean(value or 0.0 for value in values)
            for values in zip(*(one.per_class for one in found), strict=True)
        ),
        interval=(statistics.mean(one.interval[0] for one in found), statistics.mean(one.interval[1] for one in found)),
        images=found[0].images,
    )


def spread(found: Sequence[Metrics]) -> float:
    """Return the sample standard deviation of top1 over the splits; NaN if there is only one split."""
    return statistics.stdev(one.top1 for one in found) if len(found) > 1 else math.nan
