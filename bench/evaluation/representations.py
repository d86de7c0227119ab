"""What a trained encoder's representation looks like, as numbers and as pictures: Wen and Li 2021, Figures 1 to 4."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from twoview.bench.config.experiment import Place, best_device, chosen
from twoview.bench.data import betons
from twoview.bench.evaluation import judging
from twoview.bench.evaluation.encoders import Published
from twoview.bench.evaluation.probing import in_turn
from twoview.bench.evaluation.reconstructions import grid
from twoview.bench.runtime.progress import progress
from twoview.loaders import datasets, presets
from twoview.loaders.beton import Beton
from twoview.loaders.files import whole_file
from twoview.methods.probes.features import extract
from twoview.methods.probes.firing import Layer, Watched, firing_rate, sparseness
from twoview.methods.probes.separation import Separation, directions, separation, tsne

FILTERS_A_ROW = 16
CHANNELS, IMAGES = 8, 10  # of the last layer, and the images shown for each


@dataclass(frozen=True)
class Options:
    """How representations are shown. Each is an option of `twoview features`."""

    images: int = 2000  # of the test split, equally many a class; 0 means all
    k: int = 10  # neighbors that vote on a class
    perplexity: float = 30.0  # of t-SNE
    seed: int = 0  # of t-SNE


@dataclass(frozen=True)
class Representation:
    """Of one encoder on the test split.

    data: the identity of the file, as records have it. points: float32 (N, 2), t-SNE's. label: int64 (N,).
    layers: what each ReLU gave. filters and strongest: pictures, as rows of uint8 images (n, H, W, 3); of the filters
    of the first convolution, and for each of the last layer's first channels the images with its largest means.
    """

    encoder: Published
    dataset: str
    data: dict[str, str]
    classes: tuple[str, ...]
    of_representation: Separation
    of_picture: Separation
    points: np.ndarray
    label: np.ndarray
    layers: list[Layer]
    filters: list[np.ndarray]
    strongest: list[np.ndarray]


def measure(path: Path, place: Place, options: Options) -> Representation:
    """Of the encoder in a checkpoint that `twoview train` wrote. ValueError if it has no ReLU on maps (ViTs)."""
    encoder, recipe = judging.trained_encoder(path)
    file = betons.dataset_beton(recipe.dataset, "test", place.betons, place.root)
    indices = chosen(file.labels, 0, options.images)
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
        betons.identity(file),
        datasets.dataset(recipe.dataset).classes,
        separation(rows, classes, options.k),
        separation(points, classes, options.k),
        points,
        classes,
        layers,
        filters(encoder.module),
        strongest(file, indices, encoder.size, layers[-1].mean),
    )


def filters(encoder: nn.Module) -> list[np.ndarray]:
    """The first convolution's, a color a channel, each stretched to all of 0 to 255."""
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    weight = first.weight.detach().float().cpu()
    low, high = weight.amin((1, 2, 3), keepdim=True), weight.amax((1, 2, 3), keepdim=True)
    levels = ((weight - low) / (high - low) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [levels[at : at + FILTERS_A_ROW] for at in range(0, len(levels), FILTERS_A_ROW)]


def strongest(file: Beton, indices: np.ndarray, size: int, mean: Tensor) -> list[np.ndarray]:
    """The images with the largest means in each of the first channels, the largest first. mean: (N, C)."""
    top = mean[:, :CHANNELS].topk(min(IMAGES, len(mean)), dim=0).indices.T.numpy()
    shown, places = np.unique(top, return_inverse=True)
    (view,) = presets.preset("eval", size)
    with in_turn(file, indices[shown], view) as loader:
        images = torch.cat([batch.views[0] for batch in loader.epoch(0)])
    return list(images.permute(0, 2, 3, 1).contiguous().numpy()[places.reshape(top.shape)])


def as_result(one: Representation, options: Options) -> dict[str, Any]:
    """What was measured, and by which rules, as JSON has it."""
    return {
        "encoder": one.encoder.name,
        "hash": one.encoder.hash,
        "dataset": one.dataset,
        "data": one.data,
        "split": "test",
        "images": len(one.label),
        "k": options.k,
        "perplexity": options.perplexity,
        "seed": options.seed,
        "representation": one.of_representation._asdict(),
        "tsne": one.of_picture._asdict(),
        "fires": "a channel fires for an image if its mean over the image, behind the ReLU, is above 0",
        "layers": [_of_layer(layer) for layer in one.layers],
    }


def _of_layer(layer: Layer) -> dict[str, float | None]:
    """Shares from 0 to 1. sparseness is the mean over the images for which any channel fires, None if for none."""
    rate, sparse = firing_rate(layer), sparseness(layer.mean)
    return {
        "channels": len(rate),
        "firing_rate": float(rate.mean()),
        "silent_channels": float((rate == 0).float().mean()),
        "positive": float(layer.positive.mean()),
        "sparseness": float(sparse.mean()) if len(sparse) else None,
    }


def write(ones: Sequence[Representation], options: Options, folder: Path) -> list[Path]:
    """FOLDER/ENCODER.json with the numbers, ENCODER-filters.png and ENCODER-strongest.png for each."""
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
    """A line each."""
    lines = [f"{'encoder':36}{'silhouette':>12}{'kNN':>10}{'of t-SNE: silhouette':>24}{'kNN':>10}"]
    for one in ones:
        whole, picture = one.of_representation, one.of_picture
        name = f"{one.encoder.name:36}{whole.silhouette:12.3f}{whole.knn:8.1f} %"
        lines.append(f"{name}{picture.silhouette:24.3f}{picture.knn:8.1f} %")
    return "\n".join(lines)
