"""The command `measure conformance`: whether the loader's augmentations do what torchvision's and PIL's do."""

from dataclasses import asdict
from json import dumps

from twoview.bench.dataloader.conformance import card, show
from twoview.bench.runtime.progress import Terminal, console


def run(json: bool = False) -> None:
    """Compare every augmentation of the loader with torchvision and PIL. Exit code 2 if one differs too much.

    The comparison is of pixels, of the distributions of random parameters, and of whole views.

    Args:
        json: print the table of comparisons as JSON.
    """
    with console.status("comparing augmentations"):
        rows = list(card())
    if json:
        print(dumps([asdict(row) for row in rows], indent=1))
    else:
        show(rows, Terminal())
    failing = [str(row) for row in rows if not row.passed]
    if failing:
        raise ValueError(f"{len(failing)} of {len(rows)} comparisons fail: {', '.join(failing)}")
