"""The decoder: pixels equal PIL's, faults become statuses, and pixels depend only on (seed, epoch, sample, view)."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from twoview.loaders import decode, turbojpeg
from twoview.loaders.beton import Layout, SampleTable
from twoview.loaders.views import Blur, Erase, Jitter, Solarize, View

EVERY_OP = View(
    32, jitter=Jitter(0.8, 0.8, 0.8, 0.2, 0.8), gray=0.2, blur=Blur(0.1, 2.0, 5, 0.5), solarize=Solarize(128, 0.2),
    erase=Erase(),
)  # fmt: skip


def whole(size: int) -> View:
    """Return a view that equals the image, for a square image with this side."""
    return View(size, scale=None, resize=size, flip=0.0)


def jpeg(pixels: np.ndarray, mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@contextmanager
def in_a_file(content: np.ndarray) -> Iterator[int]:
    """Return the descriptor of a file in memory."""
    descriptor = os.memfd_create("images")
    try:
        os.write(descriptor, content)
        yield descriptor
    finally:
        os.close(descriptor)


class Dataset:
    """Images stored one after another in memory as in a beton, and their index."""

    def __init__(self, images: list[bytes | np.ndarray], shapes: list[tuple[int, int]]):
        blobs = [image if isinstance(image, bytes) else image.tobytes() for image in images]
        self.file = np.frombuffer(b"".join(blobs), np.uint8).copy()
        self.modes = np.array([decode.JPEG if isinstance(image, bytes) else decode.RAW for image in images], np.uint8)
        self.heights, self.widths = np.array(shapes, np.int64).T.copy()
        self.sizes = np.array([len(blob) for blob in blobs], np.int64)
        self.pointers = np.cumsum(self.sizes) - self.sizes
        self.checksums = np.empty(0, np.uint64)
        self.told: int | None = None  # the claimed size of the file in bytes, if it differs

    def render(self, views, samples, seed=3, epoch=0, decoder=None, out=None, position=0, batch=None):
        """Return (status, one array (batch, size, size, 3) per view)."""
        samples = np.asarray(samples, np.int64)
        batch = batch or samples.size
        offsets, total = decode.output_layout(views, batch)
        out = np.full(total, 99, np.uint8) if out is None else out
        arrays = self.modes, self.heights, self.widths, self.pointers, self.sizes, self.checksums
        with decode.Decoder() as own:
            render = (decoder or own).render
            table = decode.view_table(views)
            with in_a_file(self.file) as descriptor:
                told = self.file.size if self.told is None else self.told
                layout = Layout(SimpleNamespace(descriptor=descriptor, size=told), SampleTable(*arrays))
                status = render(layout, samples, table, seed, epoch, out, offsets, position)
        shapes = [(batch, view.size, view.size, 3) for view in views]
        ends = offsets + [np.prod(shape) for shape in shapes]
        arrays = [out[a:b].reshape(shape) for a, b, shape in zip(offsets, ends, shapes, strict=True)]
        return status, arrays


def one(image: bytes | np.ndarray, height: int, width: int) -> Dataset:
    return Dataset([image], [(height, width)])


@pytest.fixture(scope="module")
def mixed() -> Dataset:
    """Return six images: JPEGs of three sizes, then the same pixels raw."""
    images = [np.array(Image.fromarray(p()).resize(s)) for p, s in zip(
        (data.astronaut, data.coffee, data.chelsea), ((90, 70), (64, 64), (50, 120)), strict=True
    )]  # fmt: skip
    shapes = [p.shape[:2] for p in images]
    return Dataset([jpeg(p, quality=90) for p in images] + images, shapes * 2)


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 75, "subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decode_equals_pil(options, mode):
    blob = jpeg(data.astronaut()[:301, :301], mode, **options)
    status, (view,) = one(blob, 301, 301).render([whole(301)], [0])
    assert status.tolist() == [decode.OK]
    assert np.array_equal(view[0], np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")))


def test_raw():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    dataset = one(pixels, 32, 32)
    before = dataset.file.copy()
    status, (view, _) = dataset.render([whole(32), EVERY_OP], [0])
    assert status.tolist() == [decode.OK]
    assert np.array_equal(view[0], pixels)
    assert np.array_equal(dataset.file, before)


BLOB = jpeg(data.chelsea()[:64, :80])


def faults():
    yield "cut", one(BLOB[: len(BLOB) // 2], 64, 80), decode.BAD_JPEG
    yield "last bytes missing", one(BLOB[:-20], 64, 80), decode.BAD_JPEG
    yield "not a JPEG", one(b"nonsense" * 10, 64, 80), decode.BAD_JPEG
    yield "height", one(BLOB, 65, 80), decode.SIZE_DIFFERS
    yield "width", one(BLOB, 64, 79), decode.SIZE_DIFFERS
    yield "huge", one(BLOB, 2**62, 2**62), decode.TOO_LARGE
    yield "huge raw", one(data.chelsea()[:8, :8], 2**62, 2**62), decode.TOO_LARGE
    yield "one pixel too many", one(BLOB, 1, 178_956_971), decode.TOO_LARGE
    yield "as many as may be", one(BLOB, 1, 178_956_970), decode.SIZE_DIFFERS
    yield "raw", one(data.chelsea()[:8, :8], 8, 9), decode.RAW_SIZE
    yield "zero", one(BLOB, 0, 80), decode.EMPTY
    yield "cmyk", one(jpeg(data.chelsea()[:64, :80], "CMYK"), 64, 80), decode.CMYK
    for pointer, size in [(-1, 10), (2**62, 10), (10, len(BLOB)), (0, 2**63 - 1), (2**63 - 1, 2**63 - 1)]:
        dataset = one(BLOB, 64, 80)
        dataset.pointers[0], dataset.sizes[0] = pointer, size
        yield f"range {pointer} {size}", dataset, decode.OUT_OF_RANGE
    dataset = one(BLOB, 64, 80)
    dataset.file, dataset.told = dataset.file[:-1], len(BLOB)
    yield "cut since it was opened", dataset, decode.UNREADABLE
    dataset = one(BLOB, 64, 80)
    dataset.sizes[0] = 0
    yield "no bytes", dataset, decode.EMPTY
    dataset = one(BLOB, 64, 80)
    dataset.modes[0] = 9
    yield "mode", dataset, decode.BAD_MODE
    for content in (BLOB, data.chelsea()[:8, :8]):
        dataset = one(content, *((64, 80) if isinstance(content, bytes) else (8, 8)))
        dataset.checksums = np.array([xxhash.xxh64(dataset.file.tobytes()).intdigest()], np.uint64)
        dataset.file[-3] ^= 1
        yield f"changed {type(content)}", dataset, decode.CHANGED


@pytest.mark.parametrize(("dataset", "code"), [pytest.param(d, c, id=name) for name, d, c in faults()])
def test_faults(dataset, code):
    status, (view,) = dataset.render([View(16)], [0])
    assert status.tolist() == [code]
    assert code in decode.STATUS_TEXT
    assert (view == 99).all(), "the place of a faulty sample is not written"


def test_a_fault_leaves_its_neighbors_alone(mixed):
    _, (expected,) = mixed.render([EVERY_OP], [0, 1, 2])
    broken = copy(mixed)
    broken.file = mixed.file.copy()
    broken.file[broken.pointers[1] : broken.pointers[1] + 2] = 0
    status, (view,) = broken.render([EVERY_OP], [0, 1, 2])
    assert status.tolist() == [decode.OK, decode.BAD_JPEG, decode.OK]
    assert np.array_equal(view[[0, 2]], expected[[0, 2]])
    assert (view[1] == 99).all()


@settings(max_examples=150)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.integers(0, 10**6))
def test_damaged_bytes_never_crash(mixed, place, value, cut):
    damaged = Dataset([BLOB], [(64, 80)])
    damaged.file[place % damaged.file.size] = value
    damaged.file = damaged.file[: cut % (2 * damaged.file.size)].copy()
    status, _ = damaged.render([View(16)], [0])
    assert status[0] == decode.OK or status[0] in decode.STATUS_TEXT


VIEWS = [EVERY_OP, EVERY_OP, View(48, interpolation="bicubic"), View(24, scale=None, resize=32)]


@settings(max_examples=25)
@given(order=st.permutations(range(6)), cut=st.integers(0, 6))
def test_pixels_depend_on_the_sample_and_not_on_its_place(mixed, order, cut):
    _, expected = mixed.render(VIEWS, range(6))
    out = np.zeros(decode.output_layout(VIEWS, 6)[1], np.uint8)
    with decode.Decoder() as decoder:
        mixed.render(VIEWS, order[cut:], out=out, position=cut, batch=6, decoder=decoder)
        _, views = mixed.render(VIEWS, order[:cut], out=out, position=0, batch=6, decoder=decoder)
    for ours, reference in zip(views, expected, strict=True):
        assert np.array_equal(ours, reference[list(order)])


def test_seed_epoch_sample_and_view_each_matter(mixed):
    twice = Dataset([mixed.file[: mixed.sizes[0]].tobytes()] * 2, [(mixed.heights[0], mixed.widths[0])] * 2)
    _, (first, second) = twice.render([EVERY_OP, EVERY_OP], [0, 1])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], second[0])
    for change in ({"seed": 4}, {"seed": 3 + 2**32}, {"epoch": 1}):
        _, (changed, _) = twice.render([EVERY_OP, EVERY_OP], [0, 1], **change)
        assert not np.array_equal(first, changed)


def test_layout():
    views = [View(32), View(32), View(7), View(48)]
    offsets, total = decode.output_layout(views, 5)
    each = [5 * view.size**2 * 3 for view in views]
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [0, each[0], 2 * each[0], 2 * each[0] + each[2]]
    assert total == sum(each)


def test_the_jpeg_and_the_raw_image_take_the_same_path(mixed):
    decoded = [mixed.render([whole(64)], [1])[1][0][0]]
    raw = Dataset(decoded * 2, [(64, 64)] * 2)
    _, (expected,) = mixed.render([EVERY_OP], [1])
    _, (view,) = raw.render([EVERY_OP], [1])
    assert np.array_equal(view, expected)


def test_misuse_is_refused(mixed):
    with pytest.raises(IndexError):
        mixed.render([View(16)], [6])
    with pytest.raises(ValueError, match="room"):
        mixed.render([View(16)], [0, 1], position=1)
    for bad in (
        replace(EVERY_OP, interpolation="nearest"),
        View(32, scale=None, resize=16),
        View(0),
        View(4, blur=Blur(0.1, 2.0, 23, 0.5)),
        View(32, blur=Blur(0.1, 2.0, 4, 0.5)),
        View(32, jitter=Jitter(0.1, 0.1, 0.1, 0.6, 1.0)),
    ):
        with pytest.raises(ValueError, match="View"):
            decode.view_table([bad])


def test_closing_twice_is_harmless():
    decoder = decode.Decoder()
    decoder.close()
    decoder.close()
    with pytest.raises(ValueError, match="closed"):
        one(BLOB, 64, 80).render([View(16)], [0], decoder=decoder)


MAPPED = """
import ctypes.util
ctypes.util.find_library = lambda name: None
import twoview.loaders.decode
print(*{line.split()[-1] for line in open("/proc/self/maps") if "turbojpeg" in line})
"""


def test_a_library_in_a_folder_of_ld_library_path_is_taken_where_the_system_names_none(tmp_path):
    """The situation of a machine on which nothing can be installed."""
    [system] = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "turbojpeg.so" in line}
    mine = tmp_path / turbojpeg.SONAME
    shutil.copy(system, mine)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == [str(mine)]


def test_a_system_s_library_that_cannot_be_loaded_is_passed_over(monkeypatch):
    monkeypatch.setattr(turbojpeg.ctypes.util, "find_library", lambda name: "libturbojpeg-removed.so.0")
    assert turbojpeg.library() == turbojpeg.SONAME


def test_no_library_is_an_error_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(turbojpeg.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(turbojpeg, "SONAME", "libturbojpeg-of-nowhere.so.0")
    with pytest.raises(ImportError, match=r"which is not installed \(Debian: apt install libturbojpeg0\)"):
        turbojpeg.library()
