"""The command `embed`: features of any images as a Parquet file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from twoview.bench.evaluation.embedding import Options
from twoview.bench.runtime.escapes import on_one_line
from twoview.commands.numbers import at_least, at_most
from twoview.commands.output import show
from twoview.embedding import embed
from twoview.loaders.limits import BATCH


def run(
    encoder: Positional[str],
    path: Positional[str],
    out: Path = Path("features.parquet"),
    betons: Path | None = None,
    force: bool = False,
    json: bool = False,
    *,
    options: Annotated[Options, arg(name="")] = Options(),  # noqa: B008  # frozen
) -> None:
    """Write the features of any images, with or without labels, to a Parquet file with a row for each image.

    If the command is interrupted, the same command continues where it stopped.

    Args:
        encoder: a file that `twoview train` wrote, or torchvision:NAME, timm:NAME or checkpoint:FILE.
        path: images in any form that `train --data` takes.
        out: file to write; it is written atomically.
        betons: folder of the .beton files that the images are converted to; by default that of the training run, or
            else the folder betons next to OUT.
        force: overwrite OUT.
        json: print the result as JSON.
    """
    at_least(1, batch=options.batch)
    at_most(BATCH, batch=options.batch)
    made = embed(encoder, path, out, betons=betons, force=force, **asdict(options))
    result = {"path": str(out), "images": made.images, "dim": made.dim, "skipped": list(made.left_out)}
    lines = [f"skipped: {name}" for name in made.left_out]
    lines.append(f"{out}: features of {made.images:,} images, {made.dim} numbers each")
    show(result, json, "\n".join(map(on_one_line, lines)))
