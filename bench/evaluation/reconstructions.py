"""What MAE makes of patches that it has not seen, as a picture beside the evidence of the run."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twoview.bench.config.experiment import Place, chosen, normalize_for, run_name, trained_method
from twoview.bench.config.recipe import parse
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

SHOWN = 8  # images, side by side
SIDE = 96  # pixels of each in the picture, so that a page of many stays small
GAP = 2


def write(path: Path, place: Place, folder: Path) -> Path | None:
    """FOLDER/RUN.png of a checkpoint of MAE: images of the test split, what the encoder saw of them, what was made of
    it. None for any other method.
    """
    state = checkpoint.load(path)
    recipe = parse(state["recipe"], str(path))
    if registry.entry(recipe.method.name).method is not MAE:
        return None
    method: Any = trained_method(recipe, state["method"], path).eval()
    if isinstance(method, Online):
        method = method.method
    file = betons.dataset_beton(recipe.dataset, "test", place.betons, place.root)
    indices, views = chosen(file.labels, 0, SHOWN), presets.preset("eval", recipe.size)
    with Loader(file, views, SHOWN, masks=method.masks, indices=indices, seed=recipe.seed, shuffle=False) as loader:
        batch = next(loader.epoch(0))
    out = folder / f"{run_name(recipe)}.png"
    with whole_file(out) as temporary:
        grid(rows(method, normalize_for(recipe), batch.views[0], batch.masks[0])).save(temporary, "png")
    return out


@torch.no_grad()
def rows(method: MAE, normalize: Normalize, view: Tensor, kept: Tensor) -> list[np.ndarray]:
    """Originals, what the encoder saw of them, what was made of it: uint8 (B, H, W, 3) each.

    Kept patches are shown as they are. Where normalized pixels are predicted, a hidden patch gets back its own mean and
    standard deviation, which the decoder was not asked for.
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
    levels = [(image / normalize.scale + normalize.shift).round().clamp(0, 255) for image in images]
    return [level.permute(0, 2, 3, 1).byte().numpy() for level in levels]


def grid(shown: list[np.ndarray]) -> Image.Image:
    """One row below the other, white between the images."""
    step = SIDE + GAP
    picture = Image.new("RGB", (step * len(shown[0]) - GAP, step * len(shown) - GAP), "white")
    for y, row in enumerate(shown):
        for x, image in enumerate(row):
            how = Image.Resampling.NEAREST if image.shape[0] < SIDE else Image.Resampling.LANCZOS
            picture.paste(Image.fromarray(image).resize((SIDE, SIDE), how), (step * x, step * y))
    return picture
