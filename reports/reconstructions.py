"""Pictures that lie beside the records, as they go into a page that loads nothing."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.evidence import Run


@dataclass(frozen=True)
class Picture:
    """caption: whose. address: the file itself, as a data URI."""

    caption: str
    address: str


def pictures(runs: Sequence[Run], folder: Path) -> list[Picture]:
    """Of the runs that have one, RUN.png anywhere in the folder, by name."""
    files = {path.stem: path for path in sorted(folder.rglob("*.png"))}
    names = sorted({run.name for run in runs} & files.keys())
    return [
        Picture(name, f"data:image/png;base64,{base64.b64encode(files[name].read_bytes()).decode()}") for name in names
    ]
