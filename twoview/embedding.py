"""Features of any images as a Parquet file, from a script or by the command `embed`."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

from twoview.bench.evaluation import embedding
from twoview.bench.evaluation.embedding import Options
from twoview.bench.evaluation.probing import BATCH
from twoview.bench.runtime.locks import to_write
from twoview.loaders import checks, limits
from twoview.methods.precision import Precision


@dataclass(frozen=True)
class Embedded:
    """A file of features that `embed` made.

    path: the file. images: number of its rows. dim: numbers in the features of an image. left_out: the names of the
    images that could not be read and were skipped.
    """

    path: Path
    images: int
    dim: int
    left_out: tuple[str, ...]


def embed(
    encoder: str | PathLike[str],
    path: str | PathLike[str],
    out: str | PathLike[str] = "features.parquet",
    *,
    arch: str | None = None,
    layout: str | None = None,
    momentum: bool = False,
    betons: str | PathLike[str] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    batch: int = BATCH,
    precision: Precision = "fp32",
    on_error: Literal["raise", "skip"] = "raise",
    force: bool = False,
) -> Embedded:
    """Write the features of all images at a path to a Parquet file: those that the probes see.

    The file has a row for each image, in order, with the columns `path`, the image's name at the path; `split`, if
    there are several; `label`, the name of its class, or null; and `features`, float32. The schema's metadata say, as
    JSON under the key `twoview`, which encoder and images they are of. If the call is interrupted, the same call
    continues where it stopped.

    encoder: a file that `train` wrote, or `torchvision:NAME`, `timm:NAME` or `checkpoint:FILE`.
    path: the images, with or without labels, in any form that a recipe's `data` takes, see docs/your-data.md.
    out: the file to write; it is written atomically.
    arch, layout: architecture and code base of the weights in `checkpoint:FILE`, as for `twoview probe`.
    momentum: use the moving average of the encoder (momentum encoder or teacher), not the network that is evaluated.
    betons: the folder of the `.beton` files that the images are converted to; by default that of the encoder's training
        run, or else the folder `betons` next to `out`.
    device: where the encoder runs; "auto" takes a GPU if there is one.
    batch: number of images in a batch.
    precision: the precision of the encoder.
    on_error: "skip" skips images that cannot be read, instead of raising an error.
    force: overwrite `out`.

    Raises FileExistsError if `out` exists and `force` is not set, and ValueError or OSError, naming the file, if the
    encoder or an image cannot be read.
    """
    file = Path(out)
    limits.BATCH.check_setting(checks.whole("batch", batch, 1), "batch")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be raise or skip, got {on_error!r}")
    options = Options(arch, layout, momentum, device, batch, precision, on_error)
    with to_write(file, force):
        folder = None if betons is None else Path(betons)
        subject, images = embedding.opened(str(encoder), str(path), folder, file.parent, options)
        embedding.embed(subject, images, file, options)
    return Embedded(file, len(images), subject.dim, images.left_out)
