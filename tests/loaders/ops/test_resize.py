"""Crop and resize against torchvision on PIL images."""

import numpy as np
import pytest

from tests.support.images import noise, photograph
from twoview.loaders.ops import crop, resize

BOXES = [
    (10, 20, 300, 350),
    (0, 0, 400, 600),
    (100, 100, 30, 40),
    (399, 599, 1, 1),
    (40, 10, 350, 120),
    (3, 5, 224, 224),
]


def ours(source, box, size, bicubic, flip=False, full=None, corner=(0, 0)):
    out = np.zeros((size, size, 3), np.uint8)
    scratch = np.zeros(resize.scratch_bytes(box[2], box[3], size), np.uint8)
    resize.resize(source, *box, *(full or (size, size)), *corner, bicubic, flip, out, scratch)
    return out


@pytest.mark.parametrize("source", [photograph(), noise(400, 600)], ids=["photograph", "noise"])
@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("box", BOXES)
def test_agrees_with_torchvision(source, size, bicubic, box):
    difference = np.abs(ours(source, box, size, bicubic).astype(int) - resize.reference(source, *box, size, bicubic))
    assert difference.mean() <= 0.1
    assert (difference <= 1).mean() >= 0.999


@pytest.mark.parametrize("size", [1, 5, 33, 96])
def test_any_size_and_nothing_written_past_the_end(size):
    source = noise(40, 50)
    room = np.full(size * size * 3 + 64, 77, np.uint8)
    out = room[: size * size * 3].reshape(size, size, 3)
    scratch = np.zeros(resize.scratch_bytes(40, 50, size), np.uint8)
    resize.resize(source, 0, 0, 40, 50, size, size, 0, 0, False, False, out, scratch)
    assert np.array_equal(out, resize.reference(source, 0, 0, 40, 50, size))
    assert (room[size * size * 3 :] == 77).all()


def test_flip_is_the_mirror_of_no_flip():
    source = photograph()
    assert np.array_equal(ours(source, BOXES[0], 224, False, flip=True), ours(source, BOXES[0], 224, False)[:, ::-1])


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "side", "size"), [(400, 600, 256, 224), (133, 97, 40, 32), (32, 32, 32, 32)]
)
def test_evaluation_view(height, width, side, size, bicubic):
    source = np.ascontiguousarray(photograph()[:height, :width])
    full_height, full_width, top, left = crop.center(height, width, side, size)
    result = ours(source, (0, 0, height, width), size, bicubic, full=(full_height, full_width), corner=(top, left))
    difference = np.abs(result.astype(int) - crop.center_reference(source, side, size, bicubic))
    assert difference.mean() <= 0.1
    assert (difference <= 1).mean() >= 0.999
