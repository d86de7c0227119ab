"""New beside old."""

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

    A regression is called only where the whole interval, of 95 %, lies beyond the threshold. Evidence of another
    machine or of other settings is left out by name.

    Args:
        old: a record, a folder of records, or a commit; with --paired a checkout's folder, or a commit.
        new: the same of the new side.
        paired: measure both sides' code in turn, in this session: the training step of a recipe, or the name of one
            of the loader's works from `twoview list suites`.
        threshold: share of speed or memory that may be lost. 0.05 lets a loss of a tenth be found and is above what
            two sessions on one machine differ by.
        accuracy_threshold: share of an accuracy that may be lost; 0.02 is about what seeds differ by.
        threads: of either side of --paired, in each round on the same cores. One is disturbed the least, so that it
            tells the smallest loss the soonest; more show what threads cost each other.
        rounds: of --paired at most; it ends as soon as the interval tells the threshold from twice that.
        evidence_dir: folder whose records are searched for those of a commit.
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
