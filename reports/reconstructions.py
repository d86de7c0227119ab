"""Pictures that lie beside the records, as they go into a page that loads nothing."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twoview.bench.evidence import Run, reason
from twoview.loaders.files import bytes_of
from twoview.loaders.limits import PICTURE_BYTES


@dataclass(frozen=True)
class Picture:
    """caption: whose. address: the file itself, as a data URI."""

    caption: str
    address: str


def pictures(runs: Sequence[Run], folder: Path, complaints: list[str]) -> list[Picture]:
    """Of the runs that have one, RUN.png anywhere in the folder, by name; a complaint on each that cannot be read."""
    files = {path.stem: path for path in sorted(folder.rglob("*.png"))}
    found = []
    for name in sorted({run.name for run in runs} & files.keys()):
        try:
            content = bytes_of(files[name], PICTURE_BYTES)
        except (ValueError, OSError) as error:
            complaints.append(f"{files[name].name} cannot be shown: {reason(error)}".replace(f"{folder}/", ""))
            continue
        found.append(Picture(name, f"data:image/png;base64,{base64.b64encode(content).decode()}"))
    return found
