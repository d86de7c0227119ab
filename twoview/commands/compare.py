"""The command `compare`: whether new records, or new code, are worse than old."""

from json import dumps
from pathlib import Path

from tyro.conf import Positional

from twoview.bench.regression import compare as comparing
from twoview.bench.runtime.progress import Terminal
from twoview.commands.numbers import above_0, at_least, at_most
from twoview.loaders.files import whole_file
from twoview.loaders.limits import THREADS


def run(
    old: Positional[str],
    new: Positional[str],
    paired: str | None = None,
    threshold: float = comparing.THRESHOLD,
    accuracy_threshold: float = comparing.ACCURACY_THRESHOLD,
    threads: int = 1,
    rounds: int = 400,
    evidence_dir: Path = Path("out"),
    data_root: Path | None = None,
    markdown: Path | None = None,
    json: bool = False,
) -> int:
    """Compare new evidence, or code, with old: ratios with bootstrap intervals. Exit code 1 if something regressed.

    Something counts as a regression only if its whole 95 % interval lies beyond the threshold. Records from another
    machine or with other settings are listed but not compared.

    Args:
        old: a record, a folder of records, or a commit; with --paired, the folder of a checkout, or a commit.
        new: the same for the new side.
        paired: measure the code of both sides now, in turn. Give the name of a recipe, to time its training step, or
            of a loader measurement from `twoview list suites`.
        threshold: fraction of speed or memory that may be lost. With 0.05 a loss of 10 % is found, and the usual
            difference between two sessions on one machine is not.
        accuracy_threshold: fraction of an accuracy that may be lost; seeds differ by about 0.02.
        threads: number of threads for each side of --paired, on the same cores in every round. One thread is disturbed
            the least, so it shows small losses soonest; several also show contention between threads.
        rounds: maximum number of rounds of --paired; they stop early once the interval can tell a loss of the
            threshold from one of twice the threshold.
        evidence_dir: folder that is searched for the records of a commit.
        data_root: folder of your datasets, for --paired; TWOVIEW_DATA by default.
        markdown: write the comparison into this file, for a pull request.
        json: print the comparison as JSON.
    """
    at_least(1, threads=threads, rounds=rounds)
    at_most(THREADS, threads=threads)
    above_0(threshold=threshold, accuracy_threshold=accuracy_threshold)
    if paired:
        from twoview.bench.config.experiment import place_of
        from twoview.bench.regression.paired import compare_code

        place = place_of(Path("out/compare"), None, data_root)
        found = compare_code(old, new, paired, place, threshold, threads, rounds)
    else:
        found = comparing.compare(old, new, evidence_dir, threshold, accuracy_threshold)
    if markdown:
        with whole_file(markdown) as part:
            part.write_text(found.markdown(), encoding="utf-8")
    if json:
        print(dumps(found.as_result(), indent=1))
    else:
        found.show(Terminal())
    return 1 if found.regressions else 0
