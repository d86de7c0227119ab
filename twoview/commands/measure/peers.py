"""The command `measure peers`: the same work done by other libraries."""

from pathlib import Path

from twoview.bench import evidence
from twoview.bench.config.experiment import place_of
from twoview.bench.suites import peers as peer_suite
from twoview.commands.numbers import at_least
from twoview.commands.output import show


def run(out: Path = Path("out/peers"), rounds: int = 3, data_root: Path | None = None, json: bool = False) -> None:
    """Measure the loaders of torchvision, lightly, kornia, SPDL, DALI and FFCV, and lightly's step, against ours.

    Each library runs in its own process, on the same file and cores, in turn with ours. A library that is not
    installed, cannot do the work, or takes minutes is listed without numbers, with the reason. `make bench-peers`
    installs all of them except DALI.

    Args:
        out: folder of the records and the .beton files.
        rounds: number of rounds; in each, every library runs once.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the records as JSON.
    """
    at_least(1, rounds=rounds)
    records = list(peer_suite.measure(place_of(out, None, data_root), rounds))
    for record in records:
        evidence.write(record, out / "evidence")
    show([record.model_dump(mode="json") for record in records], json, peer_suite.text(records))
