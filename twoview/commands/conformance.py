"""The loader's ops beside torchvision's and PIL's."""

from dataclasses import asdict
from json import dumps

from twoview.bench.dataloader.conformance import card, show
from twoview.bench.runtime.progress import Terminal, console


def run(json: bool = False) -> None:
    """Hold every op of the loader against torchvision and PIL: pixels, parameters, whole views. Exit code 2 if not.

    Args:
        json: print the card as JSON.
    """
    with console.status("measuring"):
        rows = list(card())
    if json:
        print(dumps([asdict(row) for row in rows], indent=1))
    else:
        show(rows, Terminal())
    failing = [str(row) for row in rows if not row.passed]
    if failing:
        raise ValueError(f"{len(failing)} of {len(rows)} rows of the card fail: {', '.join(failing)}")
