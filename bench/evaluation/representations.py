"""Numbers and images that describe a trained encoder's representation: Wen and Li 2021, Figures 1 to 4."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from twoview.bench.config.experiment import Place, best_device, chosen
from twoview.bench.config.recipe import dataset_of
from twoview.bench.data import betons
from twoview.bench.evaluation import judging
from twoview.bench.evaluation.encoders import Published
from twoview.bench.evaluation.probing import in_turn, labeled
from twoview.bench.evaluation.reconstructions import grid
from twoview.bench.runtime.progress import progress
from twoview.loaders import presets
from twoview.loaders.beton import Beton
from twoview.loaders.files import whole_file
from twoview.methods.probes.features import extract
from twoview.methods.probes.firing import Layer, Watched, firing_rate, sparseness
from twoview.methods.probes.separation import Separation, directions, separation, tsne

FILTERS_A_ROW = 16  # filters per row of their image
CHANNELS, IMAGES = 8, 10  # number of channels of the last layer that are shown, and of images for each


@dataclass(frozen=True)
class Options:
    """Settings of the measurement and the images. Each is an option of `twoview features`."""

    images: int = 2000  # at most so many images of the test split, the same number per class; 0 means all
    k: int = 10  # neighbors of the kNN
    perplexity: float = 30.0  # perplexity of t-SNE
    seed: int = 0  # seed of t-SNE


@dataclass(frozen=True)
class Representation:
    """The representation of one encoder, measured on the test split, or on the train split if there is no other.

    data: identity of the beton file, as in records. classes: the names of the classes; empty if the images have no
    labels. of_representation, of_picture: how well the features, and the points of t-SNE, separate the classes; None
    without labels. points: float32 (N, 2), the features embedded by t-SNE. label: int64 (N,), -1 without labels.
    layers: the outputs of each ReLU, summarized. filters, strongest: rows of uint8 images (n, H, W, 3): the
    filters of the first convolution; and, for each of the last layer's first channels, the images for which its mean is
    largest.
    """

    encoder: Published
    dataset: str
    split: str
    data: dict[str, str]
    classes: tuple[str, ...]
    of_representation: Separation | None
    of_picture: Separation | None
    points: np.ndarray
    label: np.ndarray
    layers: list[Layer]
    filters: list[np.ndarray]
    strongest: list[np.ndarray]


def measure(path: Path, place: Place, options: Options) -> Representation:
    """Measure the encoder in a checkpoint of `twoview train`.

    Raises ValueError if it has no ReLU on feature maps, like a ViT.
    """
    encoder, recipe = judging.trained_encoder(path)
    dataset = dataset_of(recipe)
    split, file = betons.test_or_train(dataset, place.betons, place.root)
    indices = chosen(file.labels, 0, min(options.images, len(file)))
    if dataset.classes:
        indices = labeled(file, indices)
    device = best_device()
    watched = Watched(encoder.module.to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    (view,) = presets.preset("eval", encoder.size)
    assert encoder.normalize
    with (
        in_turn(file, indices, view) as loader,
        progress(f"representation of {encoder.name}", len(loader)) as advance,
    ):
        x, label = extract(watched, loader, encoder.normalize.to(device), device, advance)
    layers, rows, classes = watched.layers(), directions(x), label.numpy()
    points = tsne(rows, options.perplexity, options.seed)
    return Representation(
        encoder,
        recipe.dataset,
        split,
        betons.identity(file),
        dataset.classes,
        separation(rows, classes, options.k) if dataset.classes else None,
        separation(points, classes, options.k) if dataset.classes else None,
        points,
        classes,
        layers,
        filters(encoder.module),
        strongest(file, indices, encoder.size, layers[-1].mean),
    )


def filters(encoder: nn.Module) -> list[np.ndarray]:
    """Return the filters of the first convolution as images, each stretched to the full range from 0 to 255."""
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    weight = first.weight.detach().float().cpu()
    low, high = weight.amin((1, 2, 3), keepdim=True), weight.amax((1, 2, 3), keepdim=True)
    levels = ((weight - low) / (high - low) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [levels[at : at + FILTERS_A_ROW] for at in range(0, len(levels), FILTERS_A_ROW)]


def strongest(file: Beton, indices: np.ndarray, size: int, mean: Tensor) -> list[np.ndarray]:
    """Return, for each of the first channels, the images with its largest means, the largest first.

    indices: numbers of the N samples in the file. size: side of a shown image, in pixels. mean: (N, C), the mean of
    each channel over each image.
    """
    top = mean[:, :CHANNELS].topk(min(IMAGES, len(mean)), dim=0).indices.T.numpy()
    shown, places = np.unique(top, return_inverse=True)
    (view,) = presets.preset("eval", size)
    with in_turn(file, indices[shown], view) as loader:
        images = torch.cat([batch.views[0] for batch in loader.epoch(0)])
    return list(images.permute(0, 2, 3, 1).contiguous().numpy()[places.reshape(top.shape)])


def as_result(one: Representation, options: Options) -> dict[str, Any]:
    """Return the measured numbers with the settings and rules behind them, ready for JSON."""
    return {
        "encoder": one.encoder.name,
        "hash": one.encoder.hash,
        "dataset": one.dataset,
        "data": one.data,
        "split": one.split,
        "images": len(one.label),
        "k": options.k,
        "perplexity": options.perplexity,
        "seed": options.seed,
        "representation": one.of_representation and one.of_representation._asdict(),
        "tsne": one.of_picture and one.of_picture._asdict(),
        "fires": "a channel fires for an image if its mean over the image, after the ReLU, is above 0",
        "layers": [_of_layer(layer) for layer in one.layers],
    }


def _of_layer(layer: Layer) -> dict[str, float | None]:
    """Return a layer's numbers, as shares from 0 to 1.

    `sparseness` is the mean over the images for which any channel fires, and None if there is no such image.
    """
    rate, sparse = firing_rate(layer), sparseness(layer.mean)
    return {
        "channels": len(rate),
        "firing_rate": float(rate.mean()),
        "silent_channels": float((rate == 0).float().mean()),
        "positive": float(layer.positive.mean()),
        "sparseness": float(sparse.mean()) if len(sparse) else None,
    }


def write(ones: Sequence[Representation], options: Options, folder: Path) -> list[Path]:
    """Write the numbers and images of each encoder to a folder and return the paths.

    The files are ENCODER.json, ENCODER-filters.png and ENCODER-strongest.png.
    """
    written = []
    for one in ones:
        path = folder / f"{one.encoder.name}.json"
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(as_result(one, options), indent=1, allow_nan=False))
        written.append(path)
        for what, rows in (("filters", one.filters), ("strongest", one.strongest)):
            path = folder / f"{one.encoder.name}-{what}.png"
            with whole_file(path) as temporary:
                grid(rows).save(temporary, "png")
            written.append(path)
    return written


def text(ones: Sequence[Representation]) -> str:
    """Return a text table with one line for each encoder, and a sentence about each dataset without labels."""
    lines = [f"{'encoder':36}{'silhouette':>12}{'kNN':>10}{'t-SNE silhouette':>24}{'t-SNE kNN':>10}"]
    for one in ones:
        cells = [_cells(one.of_representation, 12), _cells(one.of_picture, 24)]
        lines.append(f"{one.encoder.name:36}{''.join(cells)}")
    for name in sorted({one.dataset for one in ones if not one.classes}):
        lines.append(f"{name} has no labels: silhouette and kNN need them, and the points of t-SNE are of one color")
    return "\n".join(lines)


def _cells(found: Separation | None, width: int) -> str:
    """Return the cells of silhouette and kNN, the first with this width."""
    return f"{found.silhouette:{width}.3f}{found.knn:8.1f} %" if found else f"{'-':>{width}}{'-':>10}"
