"""The command `suite`: a named list of measurements and training runs."""

from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path

from tyro.conf import Positional

from twoview.bench.config.experiment import place_of
from twoview.bench.suites import runner as suites
from twoview.commands import report
from twoview.commands.numbers import at_least, at_most
from twoview.loaders.limits import REPEATS
from twoview.reports.report import write_report

FLAGS = ("--check", "--json", "--no-report", "--quick")  # options of a suite that take no value
OF_THEIR_OWN = ("gpu", "claims")  # suites that have their own options, in `suite_NAME.py`


def command(words: Sequence[str]) -> Callable[..., None]:
    """Return this file's `run`, or the `run` of `suite_NAME.py` for a suite that has its own options."""
    for before, word in pairwise(("", *words)):
        # After an option that takes a value, the word is that value, as in `twoview suite quick --out gpu`.
        if word in OF_THEIR_OWN and (before in FLAGS or not before.startswith("--")):
            own: Callable[..., None] = import_module(f"twoview.commands.suite_{word}").run
            return own
    return run


def run(
    name: Positional[str],
    out: Path | None = None,
    seeds: int | None = None,
    data_root: Path | None = None,
    json: bool = False,
) -> None:
    """Run a suite: measure, train, evaluate, and write records and leaderboard.

    A second run continues where the first stopped.

    Args:
        name: a name from `twoview list suites`. The suites gpu and claims have their own options, which
            `twoview suite gpu --help` and `twoview suite claims --help` show.
        out: folder of everything that the suite writes; out/NAME by default.
        seeds: number of times to train each recipe, with seeds 0, 1, ...; by default once, but several times in the
            suites imbalance and rank-NAME.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the leaderboard as JSON; for imbalance its comparisons, for theory its claims.
    """
    work = suites.suite(name)
    at_least(1, seeds=seeds)
    at_most(REPEATS, seeds=seeds)
    folder = out or Path("out") / name
    suites.run(work, folder / "evidence", place_of(folder, None, data_root), seeds or work.seeds)
    if json and name.startswith(("imbalance", "theory")):
        written = write_report(folder / "evidence", folder)
        table = written.tables["theory" if name == "theory" else "imbalance"]
        return print(table.frame.to_json(orient="records", indent=1))
    report.run(folder / "evidence", folder, json)
