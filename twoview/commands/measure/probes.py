"""The command `measure probes`: the cost of the kNN and linear probes, compared with other libraries."""

from pathlib import Path

from twoview.bench import evidence
from twoview.bench.costs import probe_cost
from twoview.bench.runtime.cores import cpu_count
from twoview.commands.numbers import at_most
from twoview.commands.output import show
from twoview.loaders.limits import SAMPLES, THREADS, WIDTH


def run(
    train: int = 50_000,
    test: int = 10_000,
    dim: int = 512,
    classes: int = 100,
    k: tuple[int, ...] = (20, 200),
    threads: tuple[int, ...] = (),
    rounds: int = 5,
    evidence_dir: Path | None = None,
    json: bool = False,
) -> None:
    """Measure the kNN against faiss's exact index, and the linear probe against scikit-learn's, on the same features.

    Args:
        train: number of features that the probe learns from; they are drawn from a fixed seed.
        test: number of features that the probe is evaluated on.
        dim: dimension of a feature.
        classes: number of classes.
        k: numbers of neighbors for kNN to measure.
        threads: thread counts to measure; by default 1 and one per core.
        rounds: number of rounds; in each, every library runs once, in its own process.
        evidence_dir: folder in which to save a record of each measurement as well.
        json: print the result as JSON.
    """
    at_most(SAMPLES, train=train, test=test)
    at_most(WIDTH, dim=dim, classes=classes)
    for number in threads:
        at_most(THREADS, threads=number)
    works = probe_cost.works(train, test, dim, classes, k, threads or tuple({1, cpu_count()}))
    records = [probe_cost.measure(work, rounds) for work in works]
    if evidence_dir:
        for record in records:
            evidence.write(record, evidence_dir)
    show([probe_cost.as_result(record) for record in records], json, probe_cost.table(records))
