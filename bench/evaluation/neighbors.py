"""Nearest neighbors among images, by the cosine of their features: exact, from a file of `twoview embed`."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from twoview.bench.data.images import Images
from twoview.bench.evaluation.embedding import ROWS
from twoview.bench.evaluation.probing import KNN_MIB
from twoview.loaders.names import shown
from twoview.loaders.reference import decode
from twoview.loaders.samplers import spread
from twoview.methods.probes.nearest import nearest

SIDE = 256  # longer side of a thumbnail, in pixels: twice that on the page, for dense screens
QUALITY = 85  # of the thumbnails' JPEGs


@dataclass(frozen=True)
class Neighbors:
    """The nearest neighbors of Q query images among all N images.

    encoder, images: the names of both. path, label: of each image; the label of an image without one is None.
    query: int64 (Q,), rows of the query images. row, cosine: int64 and float32 (Q, k), rows of their neighbors and the
    similarities, the largest first. An image is not its own neighbor.
    """

    encoder: str
    images: str
    path: Sequence[str]
    label: Sequence[str | None]
    query: np.ndarray
    row: np.ndarray
    cosine: np.ndarray

    @property
    def same_class(self) -> float | None:
        """The percentage of neighbors of their query's class, among those where both have one; None without labels."""
        pairs = [
            (self.label[query], self.label[row])
            for query, rows in zip(self.query, self.row, strict=True)
            for row in rows
        ]
        same = [one == other for one, other in pairs if one is not None and other is not None]
        return 100 * sum(same) / len(same) if same else None


def search(file: Path, queries: int, named: Sequence[str], k: int, device: torch.device) -> Neighbors:
    """Return the k nearest neighbors of some of the images in a file of features. The file is read part by part.

    queries: number of query images, spread evenly over all of them. named: paths of the query images instead.
    Raises ValueError if a named image is not in the file, or if there are not more than k images.
    """
    about = json.loads(pq.read_schema(file).metadata[b"twoview"])
    table = pq.read_table(file, columns=["path", "label"])
    path, label = (table.column(name).to_pylist() for name in ("path", "label"))
    if not 0 < k < len(path):
        raise ValueError(f"k must be from 1 to {len(path) - 1}, the other images at {about['images']}, got {k}")
    query = _named(path, named, about["images"]) if named else spread(len(path), queries)
    x = torch.cat([x[query[(query >= first) & (query < first + len(x))] - first] for first, x in _features(file)])
    cosine, row = _nearest(file, x, k + 1, device)
    # Without the query itself; if it is not among the k + 1 because others are equal to it, without the last.
    others = np.argsort(row == query[:, None], axis=1, kind="stable")[:, :k]
    row, cosine = np.take_along_axis(row, others, 1), np.take_along_axis(cosine, others, 1)
    return Neighbors(about["encoder"], about["images"], path, label, query, row, cosine)


def _named(path: Sequence[str], named: Sequence[str], images: str) -> np.ndarray:
    """Return the rows of the images with these paths, int64 (Q,), in ascending order."""
    rows = {name: row for row, name in reversed([*enumerate(path)])}  # the first row of a name
    found = set()
    for name in named:
        inside = name.removeprefix(f"{images.rstrip('/')}/")  # as a shell completes it
        row = rows.get(name, rows.get(inside))
        if row is None:
            raise ValueError(f"query must be the path of an image in {images}, such as {path[0]}, got {shown(name)}")
        found.add(row)
    return np.array(sorted(found), np.int64)


def _features(file: Path) -> Iterator[tuple[int, Tensor]]:
    """Yield the features, float32 (n, D), some rows at a time, and the number of the first row before them."""
    first = 0
    for batch in pq.ParquetFile(file).iter_batches(ROWS, columns=["features"]):
        column = batch.column(0)
        yield first, torch.from_numpy(column.flatten().to_numpy().reshape(len(column), -1).copy())
        first += len(column)


def _nearest(file: Path, query: Tensor, k: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest cosines of each query and the rows that they belong to; of equal ones the first rows."""
    cosine, row = torch.empty(len(query), 0), torch.empty(len(query), 0, dtype=torch.int64)
    for first, bank in _features(file):
        groups = list(nearest(bank, query, min(k, len(bank)), KNN_MIB, device))
        both = zip((cosine, row), zip(*groups, strict=True), (0, first), strict=True)
        cosine, row = (torch.cat([before, torch.cat(new).cpu() + start], 1) for before, new, start in both)
        order = cosine.sort(dim=1, descending=True, stable=True).indices[:, :k]
        cosine, row = cosine.gather(1, order), row.gather(1, order)
    return cosine.numpy(), row.numpy()


def thumbnails(images: Images, found: Neighbors) -> dict[int, bytes]:
    """Return row -> a small version of the image as a JPEG, for the queries and their neighbors."""
    return {int(row): thumbnail(decode(*images.find(int(row)))) for row in np.union1d(found.query, found.row)}


def thumbnail(image: np.ndarray) -> bytes:
    """Return an image, uint8 (H, W, 3), as a JPEG whose longer side has SIDE pixels; small ones are not blurred."""
    whole = Image.fromarray(image)
    how = Image.Resampling.NEAREST if max(whole.size) < SIDE else Image.Resampling.LANCZOS
    scale = SIDE / max(whole.size)
    width, height = (max(1, round(side * scale)) for side in whole.size)
    buffer = io.BytesIO()
    whole.resize((width, height), how).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def as_result(found: Neighbors) -> dict[str, Any]:
    """Return the neighbors in values that JSON has."""

    def image(row: int) -> dict[str, Any]:
        return {"path": found.path[row], "label": found.label[row]}

    return {
        "encoder": found.encoder,
        "images": found.images,
        "same_class": found.same_class,
        "queries": [
            {
                **image(query),
                "neighbors": [
                    {**image(row), "cosine": round(float(cosine), 6)} for row, cosine in zip(rows, cosines, strict=True)
                ],
            }
            for query, rows, cosines in zip(found.query, found.row, found.cosine, strict=True)
        ],
    }
