"""Images of reconstructions from the folder of the records, embedded in the page so that it loads no other file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twoview.bench.evidence import Run, reason
from twoview.loaders.files import bytes_of
from twoview.loaders.limits import PICTURE_BYTES


@dataclass(frozen=True)
class Image:
    """An image for the page. caption: the name of its run. address: the PNG file's content as a data URI."""

    caption: str
    address: str


def images(runs: Sequence[Run], folder: Path, complaints: list[str]) -> list[Image]:
    """Return the images of the runs, sorted by name. A run's image is the file RUN.png, anywhere in the folder.

    For each image that cannot be read, a sentence is appended to `complaints`.
    """
    files = {path.stem: path for path in sorted(folder.rglob("*.png"))}
    found = []
    for name in sorted({run.name for run in runs} & files.keys()):
        try:
            content = bytes_of(files[name], PICTURE_BYTES)
        except (ValueError, OSError) as error:
            complaints.append(f"{files[name].name} cannot be shown: {reason(error)}".replace(f"{folder}/", ""))
            continue
        found.append(Image(name, f"data:image/png;base64,{base64.b64encode(content).decode()}"))
    return found
