"""The contact sheet: its pixels are those of the training's loader, under labels that name the recipe's views."""

import numpy as np
import pytest
import torch
from PIL import Image

from twoview.bench.config import experiment
from twoview.bench.config.experiment import Place
from twoview.bench.config.recipe import load, parse, with_values
from twoview.bench.training import contact_sheet
from twoview.bench.training.contact_sheet import GAP, LABEL, Column, columns, dimmed, sheet
from twoview.loaders.beton import open_beton
from twoview.loaders.masks import Mask
from twoview.loaders.reference import decode

FASHION = {"dataset": "fashion-mnist", "size": 28, "batch": 16, "train_images": 200, "seed": 5}
IMAGES = 3


def recipe(name="quick-cifar10", **values):
    return parse(load(name).model_dump(mode="json") | FASHION | values, name)


def first_batch(one, file):
    """The first batch of training, from its own loader."""
    with experiment.train_loader(one, file, experiment.build_method(one), torch.device("cpu")) as loader:
        return next(loader.epoch(0))


def pixels(column):
    return np.stack([np.asarray(cell) for cell in column.cells])


def enlarged(view, times):
    return view[:IMAGES].permute(0, 2, 3, 1).numpy().repeat(times, 1).repeat(times, 2)


def test_the_views_are_those_of_the_first_batch_enlarged_by_whole_pixels(fashion):
    """The two local crops of 14 pixels are shown at half the side."""
    one = with_values(recipe(views="kobak-cifar-local"), {"views.3.gray": 1.0})
    batch = first_batch(one, fashion)
    image, *shown = columns(one, fashion, IMAGES)
    assert [one.label for one in shown] == ["view 1", "view 2", "view 3, 14 px", "view 4, 14 px"]
    for column, view in zip(shown, batch.views, strict=True):
        assert np.array_equal(pixels(column), enlarged(view, 5))
    originals = np.stack([decode(fashion, int(sample)) for sample in batch.index[:IMAGES]])
    assert image.label == "image" and np.array_equal(pixels(image), originals.repeat(5, 1).repeat(5, 2))


def test_growing_views_are_shown_as_in_the_first_epoch(fashion):
    one = recipe(progressive={"start": 12, "last_epoch": 3, "multiple": 4})
    _, *shown = columns(one, fashion, IMAGES)
    assert [column.label for column in shown] == ["view 1, 12 px", "view 2, 12 px"]
    for column, view in zip(shown, first_batch(one, fashion).views, strict=True):
        assert view.shape[2] == 12 and np.array_equal(pixels(column), enlarged(view, 11))


def test_patches_that_mae_hides_are_dim(fashion):
    one = recipe("cifar10-mae")
    batch = first_batch(one, fashion)
    _, shown = columns(one, fashion, IMAGES)
    view, seen = enlarged(batch.views[0], 5), np.zeros((IMAGES, 49), bool)
    for b in range(IMAGES):
        seen[b, batch.masks[0][b]] = True
    patches = seen.reshape(IMAGES, 7, 7).repeat(20, 1).repeat(20, 2)
    assert 0 < seen.sum() < seen.size
    assert np.array_equal(pixels(shown)[patches], view[patches])
    assert np.array_equal(pixels(shown)[~patches], 96 + view[~patches] // 4)


def test_a_mask_dims_the_other_patches_of_its_grid():
    """Patches of a grid of 1 x 2 in an image of 2 x 4 pixels, numbered from the left."""
    view = np.full((2, 2, 4, 3), [0, 128, 255], np.uint8)
    out = dimmed(view, Mask(view=0, rows=1, columns=2, kept=1), np.array([[0], [1]]))
    assert (out[0, :, :2] == view[0, :, :2]).all() and (out[1, :, 2:] == view[1, :, 2:]).all()
    assert (out[0, :, 2:] == [96, 128, 159]).all() and (out[1, :, :2] == [96, 128, 159]).all()


def test_repeated_views_have_the_same_label(fashion):
    one = recipe("cifar10-msn")
    one = with_values(one, {"method.focal_views": 2, "size": 32, "dataset": "fashion-mnist"})
    assert [column.label for column in columns(one, fashion, 1)] == [
        "image", "view 1", "view 2", "view 3, 16 px", "view 3, 16 px",
    ]  # fmt: skip


def test_an_image_keeps_its_aspect_ratio(photographs):
    one = recipe(dataset="photographs", train_images=0, size=64)
    image, first, _ = columns(one, photographs, 8)
    assert all(max(cell.size) == 128 for cell in image.cells) and all(cell.size == (128, 128) for cell in first.cells)
    samples = first_batch(one, photographs).index[:8].tolist()
    for cell, sample in zip(image.cells, samples, strict=True):
        height, width, _ = decode(photographs, sample).shape
        assert cell.width / cell.height == pytest.approx(width / height, abs=0.02)


def test_cells_lie_on_a_grid_below_their_labels():
    red, blue, green = (Image.new("RGB", size, color) for size, color in (
        ((90, 60), "red"), ((100, 80), "blue"), ((70, 50), "green"),
    ))  # fmt: skip
    drawn = np.asarray(sheet([Column("image", [red, green]), Column("view 1", [blue, blue])]))
    top, right = LABEL + 2 * GAP, GAP + 90 + GAP
    assert drawn.shape == (top + 80 + GAP + 80 + GAP, right + 100 + GAP, 3)
    assert (drawn[top : top + 60, GAP : GAP + 90] == [255, 0, 0]).all()
    assert (drawn[top + 80 + GAP : top + 80 + GAP + 50, GAP : GAP + 70] == [0, 128, 0]).all()
    assert (drawn[top : top + 80, right : right + 100] == [0, 0, 255]).all()
    background = drawn[0, 0]
    assert (drawn[:top, GAP:right] != background).any() and (drawn[:top, right:] != background).any(), "labels"
    assert (drawn[top + 60 : top + 80, GAP : GAP + 90] == background).all()


def test_the_file_is_named_after_the_run(betons, tmp_path):
    one = recipe()
    path = contact_sheet.write(one, Place(betons, tmp_path, None), tmp_path / "sheets", IMAGES)
    assert path == tmp_path / "sheets" / "quick-cifar10-seed5-views.png"
    train = open_beton(betons / "fashion-mnist-train.beton")
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(sheet(columns(one, train, IMAGES))))


def test_a_sheet_that_is_too_large_is_refused(fashion, monkeypatch):
    monkeypatch.setenv("TWOVIEW_MAX_PIXELS", "10000")
    with pytest.raises(ValueError, match=r"^a contact sheet .* 10,000 pixels"):
        sheet(columns(recipe(), fashion, IMAGES))
