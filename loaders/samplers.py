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
