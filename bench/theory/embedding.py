"""Free embeddings, without an encoder: a vector per node of a graph, fitted by a loss on pairs drawn from the graph."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from twoview.bench.theory.graph import Graph
from twoview.methods.losses.msn import msn, targets

LEARNING_RATE = 0.05
START_NOISE = 0.3  # standard deviation of an embedding's start around its prototype, in each dimension

PairLoss = Callable[[Tensor, Tensor], Tensor]


def embed(graph: Graph, loss: PairLoss, dim: int, steps: int, batch: int, seed: int) -> np.ndarray:
    """Return embeddings, float64 (n, dim), that minimize a loss of two views, by Adam with a cosine schedule.

    batch: pairs per step, so that an embedding has 2 batch - 2 negatives.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    z = torch.from_numpy(rng.standard_normal((len(graph), dim), dtype=np.float32)).requires_grad_()
    _descend([z], lambda i, k: loss(z[i], z[k]), graph, rng, steps, batch)
    return _array(z)


def embed_to_prototypes(
    graph: Graph, start: np.ndarray, prior: Tensor, weight: float, dim: int, steps: int, batch: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings, float64 (n, dim), and K prototypes, float64 (K, dim), that minimize MSN's loss.

    There is one anchor per pair and no EMA.
    start: int (n,), below K, the prototype near which each node starts. Prototypes start as far apart as K can be. From
    random starts the descent ends in minima of a higher loss, where two prototypes share nearly all nodes.
    prior: (K,). weight: factor of the divergence of the mean assignment from the prior.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    # The corners of a regular simplex around 0.
    simplex = np.zeros((len(prior), dim), np.float32)
    simplex[:, : len(prior)] = (np.eye(len(prior)) - 1 / len(prior)) / math.sqrt(1 - 1 / len(prior))  # unit vectors
    noise = START_NOISE * rng.standard_normal((len(graph), dim), dtype=np.float32)
    z = torch.from_numpy(simplex[start] + noise).requires_grad_()
    prototypes = torch.from_numpy(simplex).requires_grad_()

    def loss(i: Tensor, k: Tensor) -> Tensor:
        return msn(z[i][None], targets(z[k], prototypes, prior), prototypes, prior, weight=weight)["loss"]

    _descend([z, prototypes], loss, graph, rng, steps, batch)
    return _array(z), _array(prototypes)


def _array(z: Tensor) -> np.ndarray:
    array: np.ndarray = z.detach().double().numpy()
    return array


def _descend(
    parameters: list[Tensor], loss: PairLoss, graph: Graph, rng: np.random.Generator, steps: int, batch: int
) -> None:
    """Minimize a loss of drawn pairs by Adam. loss: takes the node numbers of both views, int64 (batch,) each."""
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        i, k = map(torch.from_numpy, graph.draw(rng, batch))
        optimizer.zero_grad()
        loss(i, k).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
