"""What the probes cost, beside their peers."""

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
    """Measure kNN beside faiss's exact index and the linear probe beside scikit-learn's, on the same features in turn.

    Args:
        train: features that the probe learns from, made from a seed.
        test: features that it is judged on.
        dim: width of a feature.
        classes: of the features.
        k: neighbors of kNN, each measured.
        threads: of each contestant, each number measured; one and every core by default.
        rounds: measurements of each contestant, in turn, each in a process of its own.
        evidence_dir: write a record of evidence of each measurement into this folder, too.
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
