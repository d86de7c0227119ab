"""The command `data`: show which datasets are on this machine, and download them."""

from pathlib import Path

from tyro.conf import Positional

from twoview.bench.data import availability
from twoview.commands.output import show
from twoview.loaders import datasets
from twoview.loaders.datasets import DATASETS


def run(
    names: Positional[tuple[str, ...]] = (),
    get: bool = False,
    data_root: Path | None = None,
    json: bool = False,
) -> None:
    """Show which parts of a dataset are on this machine, which are missing, and the command that gets them.

    Args:
        names: names from `twoview list datasets`, or torchvision:NAME, or hf:NAME; by default all listed datasets.
        get: download what is missing, check it and unpack it; each file is written atomically.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the result as JSON.
    """
    root = datasets.data_root(data_root)
    entries = [datasets.dataset(name) for name in names or DATASETS]
    if get and not names:
        raise ValueError("--get needs the name of a dataset")
    if get:
        for entry in entries:
            availability.get(entry, root)
    states = [availability.state(entry, root) for entry in entries]
    show(states, json, "\n".join(availability.text(found) for found in states))
