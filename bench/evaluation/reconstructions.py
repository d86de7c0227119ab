"""MAE's reconstructions of hidden patches, as a figure that is stored next to the run's evidence."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twoview.bench.config.experiment import Place, chosen, normalize_for, run_name, trained_method
from twoview.bench.config.recipe import dataset_of, parse
from twoview.bench.data import betons
from twoview.loaders import presets
from twoview.loaders.files import whole_file
from twoview.loaders.loader import Loader
from twoview.methods import checkpoint, registry
from twoview.methods.losses.mae import image_of, moments, pixels
from twoview.methods.mae import MAE
from twoview.methods.normalize import Normalize
from twoview.methods.probes.online import Online
from twoview.methods.vit import taken

SHOWN = 8  # images in a row of the figure
SIDE = 96  # side of each image in the figure, in pixels; small, since a page may have many figures
GAP = 2  # pixels between images


def write(path: Path, place: Place, folder: Path) -> Path | None:
    """Write FOLDER/RUN.png for a checkpoint of MAE and return its path; return None for any other method.

    The figure shows images of the test split (of the train split if there is no other), the patches that the encoder
    saw, and the reconstructions.
    """
    state = checkpoint.load(path)
    recipe = parse(state["recipe"], str(path))
    if registry.entry(recipe.method.name).method is not MAE:
        return None
    method: Any = trained_method(recipe, state["method"], path).eval()
    if isinstance(method, Online):
        method = method.method
    _, file = betons.test_or_train(dataset_of(recipe), place.betons, place.root)
    indices, views = chosen(file.labels, 0, min(SHOWN, len(file))), presets.preset("eval", recipe.size)
    with Loader(
        file, views, len(indices), masks=method.masks, indices=indices, seed=recipe.seed, shuffle=False
    ) as loader:
        batch = next(loader.epoch(0))
    out = folder / f"{run_name(recipe)}.png"
    with whole_file(out) as temporary:
        grid(rows(method, normalize_for(recipe), batch.views[0], batch.masks[0])).save(temporary, "png")
    return out


@torch.no_grad()
def rows(method: MAE, normalize: Normalize, view: Tensor, kept: Tensor) -> list[np.ndarray]:
    """Return three rows of images, uint8 (B, H, W, 3) each: originals, patches that the encoder saw, reconstructions.

    view: the loader's images, (B, 3, H, W). kept: numbers of the patches that the encoder sees.
    Kept patches are shown as they are. If the method predicts normalized pixels, a hidden patch is shown with its
    true mean and standard deviation, which the decoder does not predict.
    """
    patch, image = method.encoder.patch, normalize(view)
    hidden, predicted = method.predicted(image, kept)
    truth = pixels(image, patch)
    if method.options.normalize:
        mean, std = moments(taken(truth, hidden))
        predicted = predicted * std + mean
    places = hidden[..., None].expand_as(predicted)
    shown = (truth, truth.scatter(1, places, 0.0), truth.scatter(1, places, predicted))
    images = [image_of(patches, patch, view.shape[2] // patch) for patches in shown]
    # Convert normalized pixels back to levels from 0 to 255.
    levels = [(image / normalize.scale + normalize.shift).round().clamp(0, 255) for image in images]
    return [level.permute(0, 2, 3, 1).byte().numpy() for level in levels]


def grid(shown: list[np.ndarray]) -> Image.Image:
    """Return one image with the rows of images below each other and white gaps between the images."""
    step = SIDE + GAP
    figure = Image.new("RGB", (step * len(shown[0]) - GAP, step * len(shown) - GAP), "white")
    for y, row in enumerate(shown):
        for x, image in enumerate(row):
            how = Image.Resampling.NEAREST if image.shape[0] < SIDE else Image.Resampling.LANCZOS
            figure.paste(Image.fromarray(image).resize((SIDE, SIDE), how), (step * x, step * y))
    return figure
