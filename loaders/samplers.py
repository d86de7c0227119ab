"""Traversal orders: pure functions of (seed, epoch)."""

import numpy as np

from loaders.rng import ORDER, uniforms


def sequential(count: int) -> np.ndarray:
    """0 .. count - 1, int64 (count,)."""
    return np.arange(count)


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """A uniform permutation of 0 .. count - 1, int64 (count,): the order of one random number a sample.

    seed: below 2 ** 64.
    """
    keys = uniforms(np.uint64(seed), epoch, sequential(count), 0, ORDER, 0)
    return np.argsort(keys, kind="stable")


def subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` sample numbers, sorted, with as equal a share of every class as the labels allow.

    labels: int64 (N,). Returns int64 (count,). ValueError if there are fewer than `count` samples.
    """
    if count > len(labels):
        raise ValueError(f"a subset of {count} images was asked of {len(labels)}")
    order = shuffled(len(labels), seed, 0)
    # The r-th image of its class comes before every (r + 1)-th one, so a prefix is balanced.
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels[order] == label)
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
