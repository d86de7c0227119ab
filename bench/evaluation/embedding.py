"""Features of any images, as a Parquet file with a row for each image: what it is called, its class, its features.

The features are those that the probes see. An interrupted extraction is continued by the same call: until the file is
complete, the features are in a hidden folder next to it, under names that say what they depend on.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twoview.bench.config.contents import own_name
from twoview.bench.config.experiment import chosen_device
from twoview.bench.data import own
from twoview.bench.data.images import Images, Part, images_at
from twoview.bench.data.own import Damaged
from twoview.bench.evaluation import encoders, judging
from twoview.bench.evaluation.encoders import Published
from twoview.bench.evaluation.probing import BATCH, extracted
from twoview.bench.measurement.environment import version
from twoview.loaders.checksum import xxh64_of
from twoview.loaders.errors import reason
from twoview.loaders.files import whole_file
from twoview.methods.normalize import Normalize
from twoview.methods.precision import Precision
from twoview.methods.probes.features import Features

LIBRARIES = ("torchvision:", "timm:", "checkpoint:")  # beginnings of an encoder that is not from `twoview train`
ROWS = 8192  # rows of the Parquet file that are written or read at a time
IDENTITY = ("hash", "size", "normalize", "precision", "data")  # keys of a file's description that decide its features


@dataclass(frozen=True)
class Options:
    """How images are embedded. Each is an option of `twoview embed`."""

    arch: str | None = None  # architecture of the weights in checkpoint:FILE, such as torchvision:resnet50
    layout: str | None = None  # code base whose parameter names checkpoint:FILE uses; detected by default
    momentum: bool = False  # use the moving average of a checkpoint's encoder (momentum encoder or teacher)
    device: Literal["auto", "cpu", "cuda"] = "auto"  # where the encoder runs; auto takes a GPU if there is one
    batch: int = BATCH  # images in a batch
    precision: Precision = "fp32"  # precision of the encoder
    on_error: Damaged = "raise"  # stop at the first image that cannot be read, or skip such images and list them


def opened(encoder: str, path: str, betons: Path | None, beside: Path, options: Options) -> tuple[Published, Images]:
    """Load an encoder and open all images at a path.

    encoder: a checkpoint of `twoview train`, or what `twoview.bench.evaluation.encoders.load` takes. If its
    normalization is unknown, it gets that of the images, by their mean and standard deviation.
    betons: the folder that the images are converted to; by default that of the training run, or else in `beside`.
    Raises ValueError or OSError, naming the file or the encoder, if the encoder or the images cannot be read.
    """
    if encoder.startswith(LIBRARIES):
        if options.momentum:
            raise ValueError(f"--momentum goes with a checkpoint of `twoview train`, not with {encoder}")
        subject, run = encoders.load(encoder, options.arch, options.layout), beside
    else:
        if options.arch or options.layout:
            raise ValueError(f"--arch and --layout go with checkpoint:FILE, not with {encoder}")
        subject, run = judging.trained_encoder(Path(encoder), options.momentum)[0], Path(encoder).parent.parent
    images = images_at(path, betons or run / "betons", options.on_error)
    if not subject.normalize:
        subject = replace(subject, normalize=Normalize(*own.statistics(images.parts[0].file, subject.size)))
    return subject, images


def describe(encoder: Published, images: Images, precision: Precision) -> dict[str, Any]:
    """Return what a file of features says about itself, under the key `twoview` of its schema's metadata."""
    assert encoder.normalize
    scale, shift = encoder.normalize.scale.flatten().double().cpu(), encoder.normalize.shift.flatten().double().cpu()
    return {
        "version": version("twoview"),
        "encoder": encoder.name,
        "hash": encoder.hash,
        "size": encoder.size,
        "normalize": {
            "mean": [round(value, 6) for value in (shift / 255).tolist()],
            "std": [round(value, 6) for value in (1 / (255 * scale)).tolist()],
        },
        "precision": precision,
        "images": images.path,
        "data": {part.split: _identity(part, images.classes) for part in images.parts},
    }


def _identity(part: Part, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return what decides the rows of a split: how many, the hash of its beton, and an XXH64 of all names in the rows.

    Images may be renamed, and damaged ones left out, without a change of the beton.
    """
    count, samples = len(part.file), part.file.samples
    names = "\0".join([*map(part.name, range(count)), *classes]).encode("utf-8", "surrogateescape")
    hashed = xxh64_of(names, b"" if samples is None else samples.astype("<i8"))
    return {"images": count, "hash": f"{part.file.index:016x}", "names": f"{hashed:016x}"}


def embed(encoder: Published, images: Images, out: Path, options: Options) -> None:
    """Write the features of all images, in order, to a Parquet file, atomically.

    Its columns: path, text; split, text, only if there are several splits; label, the name of the class, null if an
    image has none; and features, float32 lists of one length. `describe` gives its metadata.
    encoder: with its normalization.
    Raises ValueError if an image cannot be decoded.
    """
    device = chosen_device(options.device)
    kept = out.with_name(f".{out.name}.parts")
    found = [
        (
            part,
            extracted(
                encoder,
                part.file,
                np.arange(len(part.file)),
                (f"{own_name(images.path)}-{part.file.index:016x}", part.split),
                device=device,
                precision=options.precision,
                batch=options.batch,
                folder=kept,
            ),
        )
        for part in images.parts
    ]
    schema = _schema(images, found[0][1].x.shape[1], describe(encoder, images, options.precision))
    with whole_file(out) as temporary, pq.ParquetWriter(temporary, schema, use_dictionary=["split", "label"]) as writer:
        for part, features in found:
            for columns in _columns(part, features, images.classes):
                writer.write_table(pa.table({name: columns[name] for name in schema.names}, schema))
    shutil.rmtree(kept)


def _schema(images: Images, dim: int, about: dict[str, Any]) -> pa.Schema:
    """Return the schema of a file of features. dim: numbers in the features of an image."""
    split = [("split", pa.string())] if len(images.parts) > 1 else []
    columns = [("path", pa.string()), *split, ("label", pa.string()), ("features", pa.list_(pa.float32(), dim))]
    return pa.schema(columns, {"twoview": json.dumps(about)})


def _columns(part: Part, features: Features, classes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the columns of a split's images, some rows at a time."""
    names = [*classes, None]  # the last is for the label -1
    for first in range(0, len(features.x), ROWS):
        x = features.x[first : first + ROWS].float().numpy()
        yield {
            "path": [part.name(sample) for sample in range(first, first + len(x))],
            "split": [part.split] * len(x),
            "label": pa.array([names[label] for label in features.label[first : first + ROWS]], pa.string()),
            "features": pa.FixedSizeListArray.from_arrays(x.reshape(-1), x.shape[1]),
        }


def check_same(path: Path, about: dict[str, Any]) -> None:
    """Raise ValueError, naming the file, unless it holds the features that `describe` describes."""
    try:
        found = json.loads((pq.read_schema(path).metadata or {}).get(b"twoview", b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {reason(error)}") from None
    if any(found.get(key) != about[key] for key in IDENTITY):
        raise ValueError(
            f"{path} must hold the features of {about['images']} by {about['encoder']} as they are "
            f"now, got those of {found.get('images')} by {found.get('encoder')}: delete it, or use another folder"
        )
