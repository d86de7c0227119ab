"""Traversal orders: pure functions of (seed, epoch)."""

from typing import Any

import numpy as np

from twoview.loaders.names import look_up
from twoview.loaders.rng import ORDER, uniforms


def sequential(count: int) -> np.ndarray:
    """0 .. count - 1, int64 (count,)."""
    return np.arange(count)


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """A uniform permutation of 0 .. count - 1, int64 (count,): the order of one random number a sample.

    seed: below 2 ** 64.
    """
    keys = uniforms(np.uint64(seed), epoch, sequential(count), 0, ORDER, 0)
    return np.argsort(keys, kind="stable")


def positions(order: Any, count: int) -> np.ndarray:
    """int64 (N,): an order as its maker gives it. ValueError unless it is positions among `count` samples."""
    given = np.asarray(order)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise ValueError(f"order must have whole numbers in one dimension, got {given.dtype} of shape {given.shape}")
    for wrong in given[(given < 0) | (given >= count)]:
        raise ValueError(f"order must have positions from 0 to {count - 1}, got {wrong}")
    return given.astype(np.int64, copy=False)


def subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` sample numbers, sorted, with as equal a share of every class as the labels allow.

    labels: int64 (N,). Returns int64 (count,). ValueError if there are fewer than `count` samples.
    """
    if count > len(labels):
        raise ValueError(f"a subset of {count} images was asked of {len(labels)}")
    order = shuffled(len(labels), seed, 0)
    # The r-th image of its class comes before every (r + 1)-th one, so a prefix is balanced.
    rank = np.empty(len(labels), np.int64)
    names, label_of = np.unique(labels, return_inverse=True)
    for members in _by_class(label_of[order], len(names)):
        rank[members] = np.arange(len(members))
    return np.sort(order[np.argsort(rank, kind="stable")[:count]])


def share(count: int, batch: int, rank: int, world: int, drop_last: bool) -> list[slice]:
    """One rank's part of each batch of an order of `count` places: all ranks together have every place once, in order.

    batch: places a rank and batch, so that a global batch has batch * world. drop_last: leave out a last global batch
    that is not full; without it the ranks have as equal parts of that one as they can, some maybe none.
    """
    whole = count // (batch * world)
    parts = [slice(start := (number * world + rank) * batch, start + batch) for number in range(whole)]
    rest = count - whole * batch * world
    first, last = (whole * batch * world + rest * end // world for end in (rank, rank + 1))
    if not drop_last and last > first:
        parts.append(slice(first, last))
    return parts


def classes_a_batch(
    labels: np.ndarray, batch: int, classes: int, seed: int, epoch: int, replace: bool = False, parts: int = 1
) -> np.ndarray:
    """An epoch's order in which each `batch` places in a row hold exactly `classes` classes, for the loader's `order`.

    labels: int64 (N,). Returns int64 (N // batch * batch,), positions in `labels`: an epoch keeps its length. A batch
    takes the classes that were taken least often before it, by lot among those that tie, so that no class is taken
    twice more than another, however many images it has; `batch // classes` images of each, one more of the first
    `batch % classes`. Within a class the images are dealt like cards: none comes again before all have come, even in
    one batch if the class is small; with `replace`, each is drawn anew from all.

    batch: the global one, so that all ranks together see the K classes (the images lie mixed: each rank has a bit of
    all). With `parts`, the ranks, each of as many equal parts of the batch has K classes of its own, which no other
    part of that batch has, as in PAWS's ClassStratifiedSampler with unique classes.
    Assran et al. ("The Hidden Uniform Cluster Prior", ICLR 2023) train with K = 8 and 960; how they draw is not
    published. ValueError, naming the argument, if there are fewer classes than that, or fewer images in a part.
    """
    names, label_of = np.unique(labels, return_inverse=True)
    if not 1 <= classes * parts <= len(names):
        asked = f"classes is {classes}" + (f" for each of {parts} parts of a batch" if parts > 1 else "")
        raise ValueError(f"{asked}, of labels with {len(names)} classes")
    if batch % parts:
        raise ValueError(f"parts is {parts}, into which a batch of {batch} images cannot be divided equally")
    part = batch // parts
    if part < classes:
        raise ValueError(f"classes is {classes}, of {part} images")
    key = np.uint64(seed)
    batches = len(labels) // batch
    taken = np.zeros(len(names), np.int64)
    chosen = np.empty((batches, parts * classes), np.int64)
    for number in range(batches):
        lot = uniforms(key, epoch, number * len(names) + np.arange(len(names)), 1, ORDER, 0)
        chosen[number] = np.lexsort((lot, taken))[: parts * classes]
        taken[chosen[number]] += 1
    share_of_each = part // classes + (np.arange(classes) < part % classes)
    class_at = np.repeat(chosen.reshape(-1, classes), share_of_each, axis=1)
    mixed = np.argsort(uniforms(key, epoch, np.arange(class_at.size), 2, ORDER, 0).reshape(class_at.shape), axis=1)
    class_at = np.take_along_axis(class_at, mixed, axis=1).ravel()

    order = np.empty(len(class_at), np.int64)
    members, places = _by_class(label_of, len(names)), _by_class(class_at, len(names))
    for images, wanted in zip(members, places, strict=True):
        if replace:
            lot = uniforms(key, epoch, wanted, 3, ORDER, 0)
            order[wanted] = images[(lot * len(images)).astype(np.int64)]
        else:
            rounds = -(-len(wanted) // len(images))
            dealt = [images[np.argsort(uniforms(key, epoch, images, 4, ORDER, r))] for r in range(rounds)]
            order[wanted] = np.concatenate([*dealt, images[:0]])[: len(wanted)]
    return order


def long_tail(labels: np.ndarray, ratio: float, kind: str, seed: int) -> np.ndarray:
    """Sample numbers, sorted, of a long-tailed subset: class 0 has `ratio` times the images of the last class.

    labels: int64 (N,), of C classes. kind: the share of the c-th class is ratio ** (-c / (C - 1)) if "exponential" (Cui
    et al., CVPR 2019, and the CIFAR-LT of Cao et al., NeurIPS 2019), (c + 1) ** (-log(ratio) / log(C)) if "power", as
    large as the classes allow, rounded down to no less than 1. Which images of a class is drawn by the seed.
    Returns int64. ValueError for a ratio below 1 or an unknown kind.
    """
    if not ratio >= 1:
        raise ValueError(f"the imbalance ratio is {ratio}, which is below 1")
    names, label_of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    place = np.arange(len(names))
    last = max(len(names) - 1, 1)
    share_of = look_up(
        "kind of imbalance",
        kind,
        {
            "exponential": lambda: float(ratio) ** (-place / last),
            "power": lambda: (place + 1.0) ** (-np.log(ratio) / np.log(last + 1)),
        },
    )()
    head = np.min(sizes / share_of)
    counts = np.maximum(np.floor(head * share_of + 1e-9), 1).astype(np.int64)  # 1e-9: 5 that came out as 4.999...
    order = shuffled(len(labels), seed, 0)
    members = _by_class(label_of[order], len(names))
    return np.sort(np.concatenate([order[places[:count]] for places, count in zip(members, counts, strict=True)]))


def _by_class(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """The places of each class 0 .. classes - 1, ascending, also of those that have none."""
    return np.split(np.argsort(labels, kind="stable"), np.searchsorted(np.sort(labels), np.arange(1, classes)))
