"""Where commands keep things: what --out, --betons and --data-root say."""

from pathlib import Path

from bench.experiment import Place
from loaders import datasets


def place_of(out: Path, betons: Path | None, data_root: Path | None) -> Place:
    return Place(betons or out / "betons", out / "checkpoints", datasets.data_root(data_root))
