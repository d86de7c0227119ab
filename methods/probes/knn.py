"""Weighted k-nearest neighbors (Wu et al. 2018, section 3.4), exact."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from twoview.methods.probes.nearest import MIB, nearest


@torch.no_grad()
def votes(
    bank: Tensor,
    label: Tensor,
    query: Tensor,
    *,
    classes: int,
    k: int = 200,
    temperature: float = 0.1,
    memory_mib: float = 1024,
    device: torch.device | None = None,
) -> Iterator[Tensor]:
    """Yield the class scores of the queries, chunk by chunk: float32 (Q_chunk, classes) on `device`; a row sums to 1.

    A score is the class's share in the vote of the k nearest neighbors by cosine, each of which is weighted by
    exp(cosine / temperature).
    bank: float (N, D), the features among which neighbors are searched. label: int64 (N,) in 0 .. classes - 1, the
    bank's labels. query: float (Q, D). Features may be fp32, fp16 or bf16, and memory maps. k: at most N are used.
    The defaults of k and temperature are lightly's. memory_mib bounds what is allocated in addition to the arguments.
    device: where to compute; by default the CPU, with torch's number of threads.
    Raises ValueError for an empty bank or query, features that are not finite, an invalid label, or too little memory.

    Usage, with `metrics` of `twoview.methods.probes.metrics`:

        found = metrics(votes(*train, test.x, classes=10), test.label)
    """
    for name, features in (("bank", bank), ("query", query)):
        if len(features) == 0:
            raise ValueError(f"kNN: the {name} features are empty")
    if k < 1:
        raise ValueError(f"kNN: k must be at least 1, got {k}")
    device = device or torch.device("cpu")
    found = nearest(bank, query, min(k, len(bank)), memory_mib * 3 / 4, device)
    yield from vote(found, label, classes=classes, temperature=temperature, memory_mib=memory_mib / 4, device=device)


@torch.no_grad()
def vote(
    neighbors: Iterable[tuple[Tensor, Tensor]],
    label: Tensor,
    *,
    classes: int,
    temperature: float,
    memory_mib: float = 256,
    device: torch.device | None = None,
) -> Iterator[Tensor]:
    """Yield the scores of `votes` from neighbors that were found before.

    neighbors: for one group of queries after another, cosines, float32 (G, k), and row numbers of the bank, int64
    (G, k), as `nearest` yields them. label: int64 (N,), the bank's labels. device: where the neighbors are. See `votes`
    for the other arguments and the errors.
    """
    if temperature <= 0:
        raise ValueError(f"kNN: the temperature must be above 0, got {temperature:g}")
    least, most = int(label.min()), int(label.max())
    if least < 0 or most >= classes:
        raise ValueError(f"kNN: the bank's labels must be from 0 to {classes - 1}, got {least if least < 0 else most}")
    label = label.to(device or torch.device("cpu"))
    for cosine, row in neighbors:
        # The memory of a query is its row of scores and the weights and labels of its neighbors.
        chunk = max(int(memory_mib * MIB) // (4 * classes + 24 * cosine.shape[1]), 1)
        for near, who in zip(cosine.split(chunk), row.split(chunk), strict=True):
            weight = (near / temperature).softmax(1)
            yield weight.new_zeros(len(near), classes).scatter_add_(1, label[who], weight)


def knn_top1(
    bank: Tensor,
    bank_label: Tensor,
    query: Tensor,
    query_label: Tensor,
    *,
    k: int = 200,
    temperature: float = 0.1,
    device: torch.device | None = None,
) -> float:
    """Return the top-1 accuracy, in percent, of the predictions of `votes`; the arguments are explained there."""
    classes = int(bank_label.max()) + 1
    scores = votes(bank, bank_label, query, classes=classes, k=k, temperature=temperature, device=device)
    guess = torch.cat([v.argmax(1) for v in scores])
    return 100 * int((guess.to(query_label.device) == query_label).sum()) / len(query)
