"""The cost of the probes: kNN compared with faiss's exact index, the linear probe with scikit-learn's regression.

Both sides, ours and the peer's, get the same features, drawn from a seed, and the same number of threads. They take
turns, and each round of each side runs in a process of its own, so that its peak memory is due to one probe. A side's
time runs from the features to the predictions and includes normalizing or standardizing, building the index and voting.
"""

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from twoview.bench.evidence import ProbeCost
from twoview.bench.measurement.memory import PeakMemory, host_mib
from twoview.bench.runtime.processes import try_run
from twoview.bench.runtime.progress import progress
from twoview.methods.probes.knn import votes
from twoview.methods.probes.linear import logistic

TEMPERATURE = 0.1
WEIGHT_DECAY = 1e-3
SPREAD = 4.0  # of the features around their class center, wide enough to misclassify a third of them
PEERS = {"knn": "faiss", "linear": "scikit-learn"}  # probe -> the library that ours is compared with


class Work(NamedTuple):
    """One probe to measure.

    train, test: number of features to train on and to test. dim: their width. k: neighbors; 0 for the linear probe.
    """

    probe: Literal["knn", "linear"]
    train: int
    test: int
    dim: int
    classes: int
    threads: int
    k: int = 0


class Data(NamedTuple):
    """Features, float32 (N, dim), and labels, int64 (N,), to train on and to test."""

    train: Tensor
    label: Tensor
    test: Tensor
    test_label: Tensor


def works(train: int, test: int, dim: int, classes: int, ks: Sequence[int], threads: Sequence[int]) -> list[Work]:
    """Return the work for kNN with every k and for the linear probe, each with every number of threads.

    Raises ValueError, naming the option, if a number is too small.
    """
    least = [("--train", train, 2), ("--test", test, 1), ("--dim", dim, 1), ("--classes", classes, 2)]
    least += [("--k", k, 1) for k in ks] + [("--threads", count, 1) for count in threads]
    for name, value, bound in least:
        if value < bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")
    return [
        *(Work("knn", train, test, dim, classes, count, k) for k in ks for count in sorted(threads)),
        *(Work("linear", train, test, dim, classes, count) for count in sorted(threads)),
    ]


def measure(work: Work, rounds: int) -> ProbeCost:
    """Measure our probe and its peer and return the record. Its notes say why a side could not run.

    Raises ValueError if rounds is below 1.
    """
    if rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {rounds}")
    sides = ("twoview", PEERS[work.probe])
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    name = _name(work)
    with progress(name, rounds * len(sides)) as advance:
        for _ in range(rounds):
            for side in sides:
                found[side].append(
                    try_run(cost, (work, side), ["twoview.bench.costs.probe_cost", "faiss", "sklearn.linear_model"])
                )
                advance()
    absent = {side: one["absent"] for side, answers in found.items() for one in answers if "absent" in one}
    there = {side: answers for side, answers in found.items() if side not in absent}
    return ProbeCost(
        name=name,
        **{key: getattr(work, key) for key in ("probe", "train", "test", "dim", "classes", "threads")},
        settings={"k": work.k, "temperature": TEMPERATURE} if work.k else {"weight_decay": WEIGHT_DECAY},
        seconds={side: [one["seconds"] for one in answers] for side, answers in there.items()},
        added_mib={side: statistics.median(one["added_mib"] for one in answers) for side, answers in there.items()},
        top1={side: answers[0]["top1"] for side, answers in there.items()},
        notes=absent,
    )


def _name(work: Work) -> str:
    """Return the name of the work's record."""
    k = f"-k{work.k}" if work.k else ""
    return f"cost-{work.probe}-{work.train}x{work.dim}-{work.test}-c{work.classes}{k}-threads{work.threads}"


def as_result(record: ProbeCost) -> dict[str, Any]:
    """Return what the command prints as JSON.

    It has the record's values, the medians, the peer's time divided by ours in each round, and the difference in top-1.
    """
    about = {"probe", "train", "test", "dim", "classes", "threads", "settings", "seconds", "added_mib", "top1", "notes"}
    peer = PEERS[record.probe]
    result: dict[str, Any] = {"name": record.name, **record.model_dump(include=about)}
    ours, theirs = (record.seconds.get(side, []) for side in ("twoview", peer))
    result["median_seconds"] = {side: statistics.median(rounds) for side, rounds in record.seconds.items()}
    if ours and theirs:
        result["peer_over_ours"] = sorted(its / our for our, its in zip(ours, theirs, strict=True))
        result["top1_difference"] = record.top1["twoview"] - record.top1[peer]
    return result


def table(records: Sequence[ProbeCost]) -> str:
    """Return the records as a text table, one line each."""
    side = f"{'time (s)':>8} {'memory (MiB)':>12} {'top-1 (%)':>9}"
    head = f"{'probe':7} {'train':>14} {'k':>4} {'threads':>7} {side}   "
    lines = [head + f"{'peer':13} {side}  peer time / twoview time"]
    for record in records:
        result, peer = as_result(record), PEERS[record.probe]
        k = f"{record.settings['k']:.0f}" if "k" in record.settings else ""
        work = f"{record.probe:7} {f'{record.train} x {record.dim}':>14} {k:>4} {record.threads:7} "
        line = work + _side(result, "twoview") + f"   {peer:13} " + _side(result, peer)
        if ratios := result.get("peer_over_ours"):
            line += f"  {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _side(result: dict[str, Any], side: str) -> str:
    """Return the cells of a side: median time, added memory and top-1; or why it did not run."""
    if side in result["notes"]:
        return f"not run: {result['notes'][side]}"
    return f"{result['median_seconds'][side]:8.2f} {result['added_mib'][side]:12.0f} {result['top1'][side]:9.2f}"


def cost(job: tuple[Work, str]) -> dict[str, float]:
    """Run one side in this process; return its `seconds`, `added_mib` beyond the features, and `top1` in percent."""
    work, side = job
    torch.set_num_threads(work.threads)
    run = SIDES[work.probe, side]
    run(features(work._replace(train=200, test=20)), work)  # warm-up: imports, kernels and threads are ready after it
    data = features(work)
    # Return the memory that was freed after making the features to the system: otherwise the probe would reuse it, and
    # its own memory would not be counted.
    ctypes.CDLL(None).malloc_trim(0)
    memory, before = PeakMemory(), host_mib("VmRSS")
    start = time.perf_counter()
    guess = run(data, work)
    seconds = time.perf_counter() - start
    top1 = 100 * int((guess == data.test_label).sum()) / work.test
    return {"seconds": seconds, "added_mib": memory.host_mib - before, "top1": top1}


def features(work: Work) -> Data:
    """Return one Gaussian cluster per class, not normalized, with variances that fall off as in learned features."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, work.dim + 1).float() ** -0.5
    centers = torch.randn(work.classes, work.dim, generator=generator)
    parts: list[Tensor] = []
    for count in (work.train, work.test):
        label = torch.randint(0, work.classes, (count,), generator=generator)
        x = torch.randn(count, work.dim, generator=generator)
        for rows in range(0, count, 10_000):
            part = x[rows : rows + 10_000]
            part.mul_(SPREAD).add_(centers[label[rows : rows + 10_000]]).mul_(scale)
        parts += [x, label]
    return Data(*parts)


def _knn(data: Data, work: Work) -> Tensor:
    scores = votes(*data[:3], classes=work.classes, k=work.k, temperature=TEMPERATURE)
    return torch.cat([rows.argmax(1) for rows in scores])


def _faiss(data: Data, work: Work) -> Tensor:
    import faiss

    faiss.omp_set_num_threads(work.threads)
    index = faiss.IndexFlatIP(work.dim)
    index.add(torch.nn.functional.normalize(data.train, dim=1).numpy())
    query = torch.nn.functional.normalize(data.test, dim=1).numpy()
    cosine, row = index.search(query, min(work.k, len(data.train)))
    weight = (torch.from_numpy(cosine) / TEMPERATURE).softmax(1)
    scores = torch.zeros(len(query), work.classes).scatter_add_(1, data.label[torch.from_numpy(row)], weight)
    return scores.argmax(1)


def _linear(data: Data, work: Work) -> Tensor:
    probe = logistic(data.train, data.label, work.classes, weight_decay=WEIGHT_DECAY)
    return torch.cat([rows.argmax(1) for rows in probe.scores(data.test)])


def _sklearn(data: Data, work: Work) -> Tensor:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (len(data.train) * WEIGHT_DECAY), max_iter=1000))
    with threadpool_limits(work.threads):
        model.fit(data.train.numpy(), data.label.numpy())
        guess: np.ndarray = model.predict(data.test.numpy())
    return torch.from_numpy(guess)


# (probe, side) -> the function that returns the predicted classes, int64 (test,).
SIDES: dict[tuple[str, str], Callable[[Data, Work], Tensor]] = {
    ("knn", "twoview"): _knn,
    ("knn", "faiss"): _faiss,
    ("linear", "twoview"): _linear,
    ("linear", "scikit-learn"): _sklearn,
}
