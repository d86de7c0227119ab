"""Headers' values are checked against limits before memory or time is spent; an environment variable raises a limit."""

import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.support.corpus import PNG, chunk, oriented, saved
from twoview.bench.data import inspection
from twoview.loaders import beton
from twoview.loaders.beton import JPEG, RAW, Stored, open_beton, write
from twoview.loaders.datasets import image_folder, read_image
from twoview.loaders.datasets.samples import Samples, samples_from_list
from twoview.loaders.decode import view_table
from twoview.loaders.images import open_image
from twoview.loaders.loader import Loader
from twoview.loaders.names import checked_name, look_up
from twoview.loaders.prepared import prepared
from twoview.loaders.resident import Resident
from twoview.loaders.sparse_coding import SparseCoding
from twoview.loaders.storage import Storage
from twoview.loaders.views import View

RAISES = "the environment variable TWOVIEW_MAX_PIXELS raises this limit"


def claiming(width: int, height: int) -> bytes:
    """Return a small JPEG whose header claims another size."""
    content = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
    start = next(at for at in range(len(content)) if content[at] == 0xFF and content[at + 1] == 0xC0)
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def resized(format: str, **options: object) -> bytes:
    return saved(Image.new("RGB", (40, 30)), format, **options)


@pytest.fixture
def few(monkeypatch):
    """Set a limit that small images exceed, which runs the same code as large ones without their cost."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("TWOVIEW_MAX_PIXELS", "1199")


@pytest.fixture(params=["sealed", "FFCV's"])
def bombs(request, tmp_path, monkeypatch):
    """Return a file with two images that claim 40,000 x 40,000 pixels, a JPEG and a raw one, and an intact image."""
    monkeypatch.setattr(beton, "PAGE", 1 << 18)
    samples = [Stored(JPEG, 40_000, 40_000, claiming(40_000, 40_000), 0), Stored(RAW, 8, 8, bytes(192), 1)]
    for _ in write(tmp_path / "a.beton", 2, samples.__getitem__):
        pass
    if request.param == "FFCV's":
        content = bytearray((tmp_path / "a.beton").read_bytes())
        start = beton.HEADER.itemsize + beton.FIELD.itemsize + beton.FIELD.fields["arguments"][1]
        content[start : start + beton.SEAL.itemsize] = bytes(beton.SEAL.itemsize)
        (tmp_path / "a.beton").write_bytes(content)
    return open_beton(tmp_path / "a.beton")


SAYS = f"the image must have at most 178,956,970 pixels, got 1,600,000,000; {RAISES}"


def test_a_sample_of_too_many_pixels_is_a_sentence_wherever_it_is_decoded(bombs):
    assert inspection.verify(bombs, 1)["damaged"] == {0: SAYS}
    for kind, more in ((Loader, {}), (Resident, {"device": "cpu"})):
        with pytest.raises(ValueError, match=rf"a\.beton: sample 0, field image: {SAYS}"):
            list(kind(bombs, (View(8),), 1, shuffle=False, indices=np.arange(1), **more).epoch(0))
    with Loader(bombs, (View(8),), 2, on_error="skip") as loader:
        assert next(loader.epoch(0)).index.tolist() == [1, 1]


def test_a_jpeg_that_says_more_than_the_beton_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(beton, "PAGE", 1 << 18)
    for _ in write(tmp_path / "a.beton", 1, lambda index: Stored(JPEG, 16, 16, claiming(65_000, 65_000), 0)):
        pass
    sentence = "the height and width stored with the sample differ from those in the JPEG's header"
    assert inspection.verify(open_beton(tmp_path / "a.beton"), 1)["damaged"] == {0: sentence}


IMAGES = {
    "JPEG": resized("JPEG"),
    "PNG": resized("PNG"),
    "WebP": resized("WEBP"),
    "GIF": saved(Image.new("P", (40, 30)), "GIF"),
    "BMP": resized("BMP"),
    "TIFF": resized("TIFF"),
    "PPM": resized("PPM"),
    "JPEG 2000": resized("JPEG2000"),
    "AVIF": resized("AVIF", max_threads=1),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_of_one_pixel_too_many_is_refused_by_name(kind, few, monkeypatch, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(IMAGES[kind])
    sentence = rf"^{file} must have at most 1,199 pixels, (got 1,200|but a part of it has more); {RAISES}$"
    with pytest.raises(ValueError, match=sentence):
        read_image(file)
    monkeypatch.setenv("TWOVIEW_MAX_PIXELS", "1200")
    assert read_image(file) is not None


def test_images_that_say_more_than_may_be(tmp_path):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    for content, count in ((claiming(40_000, 40_000), "1,600,000,000"), (PNG[:8] + header + PNG[33:], "400,000,000")):
        with pytest.raises(ValueError, match=f"^cat must have at most 178,956,970 pixels, got {count}; {RAISES}$"):
            open_image(content, "cat")


def test_pillow_does_not_warn_of_what_is_allowed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(claiming(13_000, 13_000), "cat").size == (13_000, 13_000)


def test_what_is_converted_is_checked_whoever_hands_it_over():
    samples = Samples(lambda index: claiming(40_000, 40_000), np.zeros(1, np.int64), "another library")
    for each in (samples, prepared(samples, Storage(longest=100, quality=90))):
        with pytest.raises(ValueError, match=f"^sample 0 of another library must have at most .*; {RAISES}$"):
            each.stored(0)


def test_raising_the_limit_decodes_what_was_refused(fashion, monkeypatch):
    monkeypatch.setenv("TWOVIEW_MAX_PIXELS", "783")
    with pytest.raises(ValueError, match="must have at most 783 pixels, got 784"):
        list(Loader(fashion, (View(8),), 10).epoch(0))
    monkeypatch.setenv("TWOVIEW_MAX_PIXELS", "784")
    assert len(next(Loader(fashion, (View(8),), 10).epoch(0)).index) == 10


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("TWOVIEW_MAX_SAMPLES", "1999", r"fashion\.beton must have at most 1,999 samples, got 2,000"),
        ("TWOVIEW_MAX_FIELD_BYTES", "2351", r"fashion\.beton: field image of sample 0 must have at most 2,351 bytes"),
    ],
)
def test_what_a_beton_says_is_bounded(variable, value, complaint, fashion, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=rf"{complaint}.*{variable} raises"):
        open_beton(fashion.path)


def test_a_view_and_a_dictionary_are_bounded():
    with pytest.raises(ValueError, match=f"a view of size 20000 must have at most 178,956,970 pixels, .*{RAISES}"):
        view_table((View(20_000),))
    with pytest.raises(ValueError, match="d1 must be at most 131,072, got 10,000,000,000"):
        SparseCoding(d1=10**10)


def test_a_beton_of_no_samples_and_no_threads_is_a_sentence(tmp_path, fashion):
    header = np.array((beton.VERSION, 2, 1 << 21, 0, beton.HEADER.itemsize), beton.HEADER)
    (tmp_path / "none.beton").write_bytes(header.tobytes() + bytes(2 * beton.FIELD.itemsize))
    with pytest.raises(ValueError, match=r"none\.beton must hold at least one sample, got 0 in its header"):
        open_beton(tmp_path / "none.beton")
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        inspection.verify(fashion, 0)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        list(write(tmp_path / "a.beton", 1, lambda index: Stored(RAW, 1, 1, bytes(3), 0), threads=0))


@pytest.mark.parametrize(
    "about", [{"left_out": "many"}, {"left_out": -1}, {"left_out_names": 5}, {"left_out_names": [1]}]
)
def test_an_origin_of_odd_words_is_a_sentence(about, tmp_path):
    for _ in write(tmp_path / "a.beton", 1, lambda index: Stored(RAW, 1, 1, bytes(3), 0), about=lambda: about):
        pass
    with pytest.raises(ValueError, match=r"a\.beton: left_out.* must be"):
        inspection.describe(open_beton(tmp_path / "a.beton"))


@pytest.mark.parametrize("name", ["a", "resnet50-simclr_200.v2", "-", "_", "0", "a..b", "x" * 100])
def test_names_that_are_taken(name):
    assert checked_name("recipe", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "../a",
        "a/b",
        "/a",
        "a\\b",
        "a b",
        "a\n",
        "a\0",
        "é",
        "\x1b[2J",
        "x" * 101,
        "x" * 10**6,
        7,
        None,
    ],
)
def test_names_that_might_be_paths_are_not(name):
    with pytest.raises(ValueError, match=r"^the name of a recipe must (be|consist|have)") as caught:
        checked_name("recipe", name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250


def test_a_long_name_is_looked_up_in_no_time_and_not_repeated():
    with pytest.raises(ValueError, match="unknown dataset 'xxx") as caught:
        look_up("dataset", "x" * 10**6, {"cifar10": 1})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("path", ["/etc/passwd", "../a.png", "a/../../b.png"])
def test_a_list_names_files_below_its_folder_alone(path, tmp_path):
    (tmp_path / "list.txt").write_text(f"{path} 0\n")
    with pytest.raises(ValueError, match=rf"list\.txt: line 1 must name a path below {tmp_path}, got '{path}'"):
        samples_from_list(tmp_path / "list.txt", tmp_path, 2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG, turned"])
def test_pixels_that_no_page_holds_are_refused_before_they_are_decoded(kind, tmp_path, monkeypatch):
    """The PNG's pixels do not exist, so decoding it reports damage."""
    (tmp_path / "a").mkdir()
    if kind == "PNG":
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0))
        (tmp_path / "a" / "1.png").write_bytes(PNG[:8] + header + PNG[33:])
    else:
        (tmp_path / "a" / "1.png").write_bytes(saved(Image.new("RGB", (2000, 1500)), "JPEG", exif=oriented(6)))
        monkeypatch.setattr(Image.Image, "transpose", lambda *_: pytest.fail("the image was decoded"))
    samples = image_folder(tmp_path)
    with pytest.raises(
        ValueError, match=r"1\.png has [\d,]+ bytes as pixels; a page of a beton file holds 8,388,608: make it smaller"
    ):
        samples.stored(0)
    with pytest.raises(
        ValueError, match=r"1\.png has [\d,]+ bytes as pixels; a page of a beton file holds 8,388,608: make it smaller"
    ):
        prepared(samples, Storage(longest=1_990, quality=90)).stored(0)
    with pytest.raises((ValueError, pytest.fail.Exception), match=r"truncated|was decoded"):
        prepared(samples, Storage(longest=100, quality=90)).stored(0)
