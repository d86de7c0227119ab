"""Exact k nearest neighbors by cosine: every similarity is computed in float32, and only the k best are kept.

The bank, which is the set of features that is searched, is read in chunks, each of which is normalized once for a whole
group of queries. A tile holds the similarities of a block of queries and a chunk. On a CPU a compiled kernel compares
each similarity of a tile with the worst of its query's best so far, and threads share the blocks. On a GPU the tiles
are larger, `torch.topk` merges them, and the host waits for the device once per group.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from twoview.loaders.kernels import kernel

MIB = 2**20
CHUNK, BLOCK = 4096, 2048  # bank rows and queries of a tile on a CPU: 32 MiB, enough for a fast matrix product
STRIP = 16  # similarities that are skipped together if even the largest of them is too small
LOW = np.uint64(0xFFFFFFFF)  # the half of a candidate's bits that holds its bank row: see `_keep`


class Plan(NamedTuple):
    """How many rows fit into the memory: queries in a group, queries in a block of a group, bank rows in a chunk."""

    group: int
    block: int
    chunk: int


def nearest(
    bank: Tensor, query: Tensor, k: int, memory_mib: float, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for one group of queries after another, their k largest cosines and the bank rows that these belong to.

    bank: float (N, D), the features to search; query: float (Q, D); 1 <= k <= N. Each group of G queries gives cosines,
    float32 (G, k), the largest first, and row numbers of the bank, int64 (G, k). On the CPU equal cosines are in the
    bank's order, and torch's number of threads is used. The bank is read once per group. memory_mib bounds what is
    allocated, and with it the number of queries in a group.
    Raises ValueError if features are not finite, naming bank or query, or if the memory is too little for one query.
    """
    search = _search_cpu if device.type == "cpu" else _search_torch
    plan = _plan(bank, len(query), k, memory_mib, device)
    for rows in query.split(plan.group):
        yield search(bank, rows, k, plan, device)


def _plan(bank: Tensor, queries: int, k: int, memory_mib: float, device: torch.device) -> Plan:
    """Divide the memory: an eighth to a chunk of the bank, an eighth to the tiles, the rest to a group of queries."""
    count, dim = bank.shape
    share = int(memory_mib * MIB) // 8
    cpu = device.type == "cpu"
    # Tiles in memory: one per thread on a CPU; on a GPU one, and the result of topk, which is at most as large.
    tiles = torch.get_num_threads() if cpu else 2
    chunk = min(count, share // (2 * 4 * dim), CHUNK if cpu else count)  # in float32, as stored and normalized
    block = min(queries, share // max(tiles * 4 * chunk, 1), BLOCK if cpu else queries)
    each = 2 * 4 * dim + 8 * _room(k) + 48 * k  # bytes per query: its copy, normalized copy, candidates, result
    group = min(queries, 6 * share // each)
    if not (chunk and block and group):
        raise ValueError(f"kNN: the memory is too little for features of {dim} numbers and k = {k}")
    turns = -(-group // (block * tiles))  # blocks per thread; all get one size, so that the threads end together
    return Plan(group, -(-group // (turns * tiles)) if cpu else block, chunk)


def _normalized(features: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the features as float32 rows of unit length on the device, and whether all of them are finite.

    A row of zeros stays zero.
    """
    x = features.to(device).float()
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length.clamp_min(1e-12), length.isfinite().all()


def _check(**finite: list[Tensor]) -> None:
    """Raise ValueError, naming the features that are not finite. The host waits for the device only once."""
    looked = torch.stack([torch.stack(parts).all() for parts in finite.values()]).cpu().tolist()
    for name, whole in zip(finite, looked, strict=True):
        if not whole:
            raise ValueError(f"kNN: the {name} features are not finite")


def _search_torch(bank: Tensor, query: Tensor, k: int, plan: Plan, device: torch.device) -> tuple[Tensor, Tensor]:
    """Search for a group of queries by torch alone, on any device. See `nearest` for arguments and result.

    Products are in full float32, whatever precision the process allows elsewhere. Whether all features are finite is
    checked after the search, since an earlier check would make the host wait for the device at every chunk.
    """
    query, whole = _normalized(query, device)
    best = query.new_full((len(query), k), -torch.inf)
    where = torch.zeros(len(query), k, dtype=torch.int64, device=device)
    chunks_whole = []
    with _no_tf32():
        for first in range(0, len(bank), plan.chunk):
            chunk, chunk_whole = _normalized(bank[first : first + plan.chunk], device)
            chunks_whole.append(chunk_whole)
            for at in range(0, len(query), plan.block):
                rows = slice(at, at + plan.block)
                tile, place = (query[rows] @ chunk.T).topk(min(k, len(chunk)), dim=1)
                best[rows], order = torch.cat([best[rows], tile], 1).topk(k, dim=1)
                where[rows] = torch.cat([where[rows], place + first], 1).gather(1, order)
    _check(query=[whole], bank=chunks_whole)
    return best, where


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Compute float32 matrix products in full precision within the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _search_cpu(bank: Tensor, query: Tensor, k: int, plan: Plan, device: torch.device) -> tuple[Tensor, Tensor]:
    """Search for a group of queries on the CPU: numpy's matrix product makes a tile, and `_keep` keeps its best.

    Each of our threads runs a single-threaded product. Features are checked first, since `_keep` takes finite numbers
    only.
    """
    threads = torch.get_num_threads()
    query, whole = _normalized(query, device)
    _check(query=[whole])
    rows = query.numpy()
    keys = np.zeros((len(rows), _room(k)), np.uint64)
    held = np.zeros(len(rows), np.int64)
    floor = np.full(len(rows), -np.inf, np.float32)
    tiles = [np.empty(plan.block * plan.chunk, np.float32) for _ in range(threads)]
    starts = range(0, len(rows), plan.block)

    def share(thread: int, chunk: np.ndarray, first: int) -> None:
        for at in starts[thread::threads]:
            block = slice(at, at + plan.block)
            tile = tiles[thread][: len(rows[block]) * len(chunk)].reshape(-1, len(chunk))
            np.matmul(rows[block], chunk.T, out=tile)
            _keep(tile, tile.view(np.uint32), first, k, keys[block], held[block], floor[block])

    with ThreadPoolExecutor(threads) as pool, threadpool_limits(1, "blas"):
        for first in range(0, len(bank), plan.chunk):
            chunk, whole = _normalized(bank[first : first + plan.chunk], device)
            _check(bank=[whole])
            list(pool.map(share, range(threads), [chunk.numpy()] * threads, [first] * threads))
        list(pool.map(lambda at: keys[at : at + plan.block].sort(axis=1), starts))
    # From the k largest candidates back to cosines and bank rows; `_keep` says how the two are packed.
    best = keys[:, : -k - 1 : -1]
    bits = (best >> np.uint64(32)).astype(np.uint32)
    cosine = np.where(bits >> 31, bits ^ np.uint32(1 << 31), ~bits).view(np.float32)
    return torch.from_numpy(cosine), torch.from_numpy((~best & LOW).astype(np.int64))


def _room(k: int) -> int:
    """Return how many candidates a query may hold before all but the k best of them are dropped."""
    return 3 * k + 64


@kernel
def _cosine(key: Any) -> Any:  # pragma: no cover - compiled
    """Return the similarity that a candidate of `_keep` holds."""
    bits = np.uint32(key >> np.uint64(32))
    sign = np.uint32(0x80000000) if bits >> np.uint32(31) else np.uint32(0xFFFFFFFF)
    return np.uint32(bits ^ sign).view(np.float32)


@kernel
def _drop(keys: np.ndarray, count: int, k: int) -> Any:  # pragma: no cover - compiled
    """Keep the k largest of the first `count` numbers, set the rest to zero, and return the smallest that is kept.

    The selection is Hoare's FIND.
    """
    low, high = 0, count - 1
    while low < high:
        pivot = keys[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i, j = i + 1, j - 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    for j in range(k, len(keys)):
        keys[j] = 0
    return keys[k - 1]


@kernel(fastmath={"nnan", "nsz"})
def _keep(
    tile: np.ndarray, bits: np.ndarray, first: int, k: int, keys: np.ndarray, held: np.ndarray, floor: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Add each query's similarities above its floor to its candidates.

    When there is no more room, the k best candidates are kept, and the worst of them is the new floor. A candidate is
    one 64-bit integer, so that comparing integers orders candidates: the upper half is the similarity, its bits mapped
    so that they sort as an integer does; the lower half is the bank row with its bits inverted, so that of two equal
    similarities the one earlier in the bank is larger.
    """
    columns = tile.shape[1]
    for i in range(len(tile)):
        limit, count = floor[i], held[i]
        for start in range(0, columns, STRIP):
            # Skip the strip if even its largest similarity is not above the floor.
            if start + STRIP <= columns:
                top = tile[i, start]
                for j in range(start + 1, start + STRIP):
                    top = tile[i, j] if tile[i, j] > top else top
                if top <= limit:
                    continue
            # Each candidate is written, and counted only if it is above the floor: the processor would often mispredict
            # a branch here.
            for j in range(start, min(start + STRIP, columns)):
                sign = np.uint32(0xFFFFFFFF) if bits[i, j] >> np.uint32(31) else np.uint32(0x80000000)
                above = np.uint64(bits[i, j] ^ sign) << np.uint64(32)
                keys[i, count] = above | (LOW - np.uint64(first + j))
                count += tile[i, j] > limit
            if count > keys.shape[1] - STRIP - 1:
                limit, count = _cosine(_drop(keys[i], count, k)), k
        floor[i], held[i] = limit, count
