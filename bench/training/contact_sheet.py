"""A contact sheet of a recipe: training images, each with its views as the network sees them before normalization."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from twoview.bench.config import experiment
from twoview.bench.config.experiment import Place, run_name
from twoview.bench.config.recipe import Recipe, dataset_of
from twoview.bench.config.views import numbered
from twoview.bench.data import betons, own
from twoview.bench.runtime.cores import cpu_count
from twoview.loaders.beton import Beton
from twoview.loaders.files import whole_file
from twoview.loaders.limits import PIXELS
from twoview.loaders.masks import Mask
from twoview.loaders.reference import decode

SIDE = 128  # small views are enlarged by the same whole number, so that the largest has about this many pixels
GAP = 6  # pixels between images, and around them
LABEL = 12  # height of the letters, in pixels


class Column(NamedTuple):
    """A column of the contact sheet: its label, and an image for each row."""

    label: str
    cells: Sequence[Image.Image]


def write(recipe: Recipe[Any], place: Place, folder: Path, images: int) -> Path:
    """Write FOLDER/NAME-seedSEED-views.png, the contact sheet of a recipe, and return its path.

    images: number of images, the first ones that training sees; at most the recipe's batch.
    Raises ValueError if training could not begin with these views, or if the sheet would be too large.
    """
    recipe = own.read(recipe, place.betons)
    file = betons.dataset_beton(dataset_of(recipe), "train", place.betons, place.root, damaged=recipe.damaged)
    batch = min(recipe.batch, len(experiment.train_images(recipe, file.labels)))  # fewer images make a sheet, too
    drawn = sheet(columns(recipe.model_copy(update={"batch": batch, "accumulate": 1}), file, images))
    out = folder / f"{run_name(recipe)}-views.png"
    with whole_file(out) as temporary:
        drawn.save(temporary, "png")
    return out


def columns(recipe: Recipe[Any], file: Beton, images: int) -> list[Column]:
    """Return the images of the first training batch, then a column for each of their views. file: the train split."""
    method, device = experiment.outline(recipe), torch.device("cpu")
    with (
        experiment.train_loader(recipe, file, method, device, cpu_count()) as loader,
        loader.epoch(0) as epoch,
    ):
        batch = next(epoch)
    views = [view[:images].permute(0, 2, 3, 1).numpy() for view in batch.views]
    for mask, kept in zip(method.masks, batch.masks, strict=True):
        views[mask.view] = dimmed(views[mask.view], mask, kept[:images].numpy())
    times = max(1, round(SIDE / max(view.shape[1] for view in views)))
    whole = [_fitted(decode(file, int(sample)), times * recipe.size) for sample in batch.index[:images]]
    found = [Column("image", whole)]
    for (number, _), view in zip(numbered(recipe.views, recipe.size, recipe.method), views, strict=True):
        side = view.shape[1]
        label = f"view {number}" if side == recipe.size else f"view {number}, {side} px"
        pixels = view.repeat(times, 1).repeat(times, 2)
        found.append(Column(label, [Image.fromarray(one) for one in pixels]))
    return found


def dimmed(view: np.ndarray, mask: Mask, kept: np.ndarray) -> np.ndarray:
    """Return a view of several images, in which the patches that the mask hides are close to middle gray.

    view: uint8 (B, H, W, 3). kept: int64 (B, K), the numbers of the patches that are not hidden.
    """
    seen = np.zeros((len(view), mask.patches), bool)
    np.put_along_axis(seen, kept, True, axis=1)
    height, width = view.shape[1] // mask.rows, view.shape[2] // mask.columns
    seen = seen.reshape(-1, mask.rows, mask.columns).repeat(height, 1).repeat(width, 2)
    return np.where(seen[..., None], view, 96 + view // 4)


def _fitted(image: np.ndarray, side: int) -> Image.Image:
    """Return an image, uint8 (H, W, 3), resized to fit into a square of this side, with its aspect ratio."""
    how = Image.Resampling.NEAREST if max(image.shape) < side else Image.Resampling.LANCZOS
    return ImageOps.contain(Image.fromarray(image), (side, side), how)


def sheet(shown: Sequence[Column]) -> Image.Image:
    """Return one image with the columns next to each other and a label above each.

    Raises ValueError if it would have more pixels than an image may have.
    """
    font = ImageFont.load_default(LABEL)
    widths = [max(font.getbbox(one.label)[2], *(cell.width for cell in one.cells)) for one in shown]
    heights = [max(cell.height for cell in row) for row in zip(*(one.cells for one in shown), strict=True)]
    top = LABEL + 2 * GAP
    size = int(sum(widths)) + GAP * (len(widths) + 1), top + sum(heights) + GAP * len(heights)
    PIXELS.check(size[0] * size[1], "a contact sheet")
    figure = Image.new("RGB", size, "gainsboro")
    draw, x = ImageDraw.Draw(figure), GAP
    for column, width in zip(shown, widths, strict=True):
        draw.text((x, GAP), column.label, "black", font)
        y = top
        for cell, height in zip(column.cells, heights, strict=True):
            figure.paste(cell, (x, y))
            y += height + GAP
        x += int(width) + GAP
    return figure
