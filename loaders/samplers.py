"""Sample orders and subsets of a dataset, all of them pure functions of the seed and, where it matters, the epoch."""

from typing import Any

import numpy as np

from twoview.loaders.names import look_up
from twoview.loaders.rng import ORDER, uniforms


def sequential(count: int) -> np.ndarray:
    """Return 0 .. count - 1 as int64 (count,)."""
    return np.arange(count)


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return a uniformly random permutation of 0 .. count - 1, int64 (count,).

    It sorts the samples by one random number each. seed: below 2 ** 64.
    """
    keys = uniforms(np.uint64(seed), epoch, sequential(count), 0, ORDER, 0)
    return np.argsort(keys, kind="stable")


def spread(count: int, some: int) -> np.ndarray:
    """Return at most `some` of the numbers 0 .. count - 1, spread evenly from the first to the last, int64 (N,)."""
    return np.unique(np.linspace(0, count - 1, some).round().astype(np.int64))


def positions(order: Any, count: int) -> np.ndarray:
    """Return a given order as int64 (N,). Raises ValueError unless it has only positions from 0 to count - 1."""
    given = np.asarray(order)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise ValueError(f"order must have whole numbers in one dimension, got {given.dtype} of shape {given.shape}")
    for wrong in given[(given < 0) | (given >= count)]:
        raise ValueError(f"order must have positions from 0 to {count - 1}, got {wrong}")
    return given.astype(np.int64, copy=False)


def subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return `count` random sample numbers, sorted, int64 (count,), balanced over the classes as far as possible.

    labels: int64 (N,). Raises ValueError if there are fewer than `count` samples.
    """
    if count > len(labels):
        raise ValueError(f"a subset must have at most {len(labels)} images, got {count}")
    order = shuffled(len(labels), seed, 0)
    # Every class's r-th image comes before any class's (r + 1)-th one, so the first `count` of them are balanced.
    rank = np.empty(len(labels), np.int64)
    names, label_of = np.unique(labels, return_inverse=True)
    for members in _by_class(label_of[order], len(names)):
        rank[members] = np.arange(len(members))
    return np.sort(order[np.argsort(rank, kind="stable")[:count]])


def share(count: int, batch: int, rank: int, world: int, drop_last: bool) -> list[slice]:
    """Return the positions of one rank's part of each batch, as slices into an order of `count` samples.

    The parts of all ranks together cover every position once, in order.
    batch: samples per rank and batch, so that a global batch has batch * world. rank, world: the number of this
    process, and how many there are. drop_last: drop the last global batch if it is not full. Otherwise, the ranks'
    parts of the last batch are as equal as possible, and may be empty.
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
    """Return an order for an epoch in which each batch holds exactly K = `classes` classes, for the loader's `order`.

    labels: int64 (N,). Returns int64 (N // batch * batch,), positions in `labels`, so that an epoch keeps its length.

    Each batch takes the classes that were taken least often before, with ties broken at random, so the numbers of times
    that two classes are taken never differ by more than one, however many images they have. It takes `batch // classes`
    images of each class, and one more of each of the first `batch % classes`. Within a class, no image is repeated
    before all of its images have been used; if the class is small, this may lead to repeats within a batch. With
    `replace`, each image is drawn independently from all images of the class.

    batch: the global batch size. All ranks together see the K classes. The images of a batch are in random order, so
    each rank gets a mixture of these classes.
    parts: divides each batch into this many equal parts, for example one per rank. Each part has K classes that no
    other part of the batch has, as in PAWS's ClassStratifiedSampler with unique classes.

    Assran et al. ("The Hidden Uniform Cluster Prior", ICLR 2023) train with K = 8 and K = 960. How they draw is not
    published. Raises ValueError, naming the argument, if there are fewer classes than needed, or a part of a batch has
    fewer images than classes or is not a whole number of images.
    """
    names, label_of = np.unique(labels, return_inverse=True)
    if not 1 <= classes * parts <= len(names):
        each = f" for each of {parts} parts of a batch" if parts > 1 else ""
        raise ValueError(f"classes must be from 1 to {len(names)} in all, the labels' classes, got {classes}{each}")
    if batch % parts:
        raise ValueError(f"parts must divide a batch of {batch} images equally, got {parts}")
    part = batch // parts
    if part < classes:
        raise ValueError(f"classes must be at most {part}, the images in a batch or one of its parts, got {classes}")
    # Choose the classes of each batch: the least often taken ones, in random order among equals.
    key = np.uint64(seed)
    batches = len(labels) // batch
    taken = np.zeros(len(names), np.int64)
    chosen = np.empty((batches, parts * classes), np.int64)
    for number in range(batches):
        lot = uniforms(key, epoch, number * len(names) + np.arange(len(names)), 1, ORDER, 0)
        chosen[number] = np.lexsort((lot, taken))[: parts * classes]
        taken[chosen[number]] += 1
    # The class at each position of the order, and then the positions within a batch or part in random order.
    share_of_each = part // classes + (np.arange(classes) < part % classes)
    class_at = np.repeat(chosen.reshape(-1, classes), share_of_each, axis=1)
    mixed = np.argsort(uniforms(key, epoch, np.arange(class_at.size), 2, ORDER, 0).reshape(class_at.shape), axis=1)
    class_at = np.take_along_axis(class_at, mixed, axis=1).ravel()

    # Give each position an image of its class: drawn with replacement, or from shuffled rounds of all images.
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
    """Return the sorted sample numbers, int64, of a long-tailed subset, with `ratio` times as many images of the first
    class as of the last.

    labels: int64 (N,), of C classes. kind: how the size of class c = 0 .. C - 1 falls with c. It is proportional to
    ratio ** (-c / (C - 1)) for "exponential" (Cui et al., CVPR 2019, and the CIFAR-LT of Cao et al., NeurIPS 2019), and
    to (c + 1) ** (-log(ratio) / log(C)) for "power". All sizes are as large as the classes allow, and rounded down, but
    at least 1. The seed determines which images of a class are taken.
    Raises ValueError for a ratio below 1 or an unknown kind.
    """
    if not ratio >= 1:
        raise ValueError(f"the imbalance ratio must be at least 1, got {ratio}")
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
    # The largest size of the first class at which no class needs more images than it has.
    head = np.min(sizes / share_of)
    # Without 1e-9, a product of 4.999... instead of 5 would give 4.
    counts = np.maximum(np.floor(head * share_of + 1e-9), 1).astype(np.int64)
    order = shuffled(len(labels), seed, 0)
    members = _by_class(label_of[order], len(names))
    return np.sort(np.concatenate([order[places[:count]] for places, count in zip(members, counts, strict=True)]))


def _by_class(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """Return the positions of each class 0 .. classes - 1 in `labels`, ascending; empty for a class without any."""
    return np.split(np.argsort(labels, kind="stable"), np.searchsorted(np.sort(labels), np.arange(1, classes)))
