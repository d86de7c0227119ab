"""Reduced images against PIL, and images of every kind from their source through a beton to a view."""

import io

import numpy as np
import pytest
from PIL import Image

from twoview.loaders import presets
from twoview.loaders.beton import JPEG, RAW, open_beton, write
from twoview.loaders.datasets import Samples, bundled_photographs, image_folder
from twoview.loaders.loader import Loader
from twoview.loaders.prepared import prepared
from twoview.loaders.storage import Storage
from twoview.loaders.views import View


@pytest.fixture(scope="module")
def image():
    return bundled_photographs()["chelsea"]


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def through_a_beton(folder, path):
    samples = image_folder(folder)
    for _ in write(path, len(samples), samples.stored):
        pass
    return open_beton(path)


def test_larger_jpegs_are_resized_by_pil_and_the_rest_keep_their_bytes(image):
    large, small = jpeg(image, quality=95), jpeg(image.crop((0, 0, 100, 60)))
    samples = Samples([large, small].__getitem__, np.zeros(2, np.int64), "a test")
    less = prepared(samples, Storage(longest=100, quality=80))
    assert less.image(1) == small
    width, height = image.size
    expected = Image.open(io.BytesIO(large)).resize((100, round(100 * height / width)), Image.Resampling.BICUBIC)
    assert less.image(0) == jpeg(expected, quality=80)
    assert less.stored(0).mode == JPEG and (less.stored(0).width, less.stored(0).height) == expected.size


def test_larger_pixels_stay_pixels(image):
    pixels = np.asarray(image)
    less = prepared(Samples(lambda index: pixels, np.zeros(1, np.int64), "a test"), Storage(longest=64, quality=90))
    assert less.stored(0).mode == RAW and max(less.stored(0).height, less.stored(0).width) == 64
    assert (
        prepared(Samples(lambda index: pixels, np.zeros(1, np.int64), ""), Storage(longest=5000, quality=90)).image(0)
        is pixels
    )


@pytest.mark.parametrize(("resolution", "quality", "named"), [(0, 90, "--max-resolution"), (100, 96, "--quality")])
def test_what_is_out_of_range_is_named(resolution, quality, named):
    with pytest.raises(ValueError, match=named):
        prepared(Samples(lambda index: b"", np.zeros(1, np.int64), ""), Storage(longest=resolution, quality=quality))


def test_sources_of_every_kind_arrive_as_pil_reads_them(image, tmp_path):
    """Gray, CMYK, rotated, 1 x 1 pixels, and 20,000 pixels wide."""
    folder = tmp_path / "images" / "only"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(np.tile(np.asarray(image)[:50], (1, 100, 1))[:, :20_000])
    (folder / "a.jpg").write_bytes(jpeg(image.convert("L")))
    (folder / "b.jpg").write_bytes(jpeg(image.convert("CMYK")))
    (folder / "c.jpg").write_bytes(jpeg(image, exif=exif))
    image.crop((0, 0, 1, 1)).save(folder / "d.png")
    (folder / "e.jpg").write_bytes(jpeg(image.crop((9, 9, 10, 10))))
    (folder / "f.jpg").write_bytes(jpeg(wide))
    file = through_a_beton(folder.parent, tmp_path / "a.beton")
    assert file.widths.tolist()[-1] == 20_000 and file.heights.tolist()[2] == image.width
    with Loader(file, presets.preset("eval", 32), 6, shuffle=False) as loader:
        views = next(loader.epoch(0)).views[0].permute(0, 2, 3, 1).numpy()
    for row, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        upright = Image.open(folder / name).convert("RGB")
        upright = upright.rotate(-90, expand=True) if name == "c.jpg" else upright
        short = min(upright.size)
        left, top = (round((32 * side // short - 32) / 2) for side in upright.size)
        resized = upright.resize([32 * side // short for side in upright.size], Image.Resampling.BILINEAR)
        assert np.array_equal(views[row], np.asarray(resized.crop((left, top, left + 32, top + 32)))), name
    for row, name in ((3, "d.png"), (4, "e.jpg")):
        assert (views[row] == np.asarray(Image.open(folder / name).convert("RGB"))[0, 0]).all()
    with Loader(file, (View(32), View(224)), 6) as loader:
        assert len(list(loader.epoch(0))) == 1


def test_what_pil_cannot_resize_is_named():
    damaged = Samples(lambda index: b"\xff\xd8\xff\xe0 cut", np.zeros(1, np.int64), "a test")
    with pytest.raises(ValueError, match="sample 0 of a test cannot be read as an image: Truncated File Read"):
        prepared(damaged, Storage(longest=64, quality=90)).image(0)


@pytest.mark.parametrize(("name", "content"), [("zero.jpg", b""), ("cut.jpg", None)])
def test_what_cannot_be_decoded_is_refused_by_name_and_leaves_nothing(image, tmp_path, name, content):
    folder = tmp_path / "images" / "only"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(image))
    (folder / name).write_bytes(jpeg(image)[:5000] if content is None else content)
    with pytest.raises(ValueError, match=name):
        through_a_beton(folder.parent, tmp_path / "a.beton")
    assert not (tmp_path / "a.beton").exists()


def test_a_damaged_jpeg_is_not_made_a_whole_one(image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images" / "a").mkdir(parents=True)
    contents = [jpeg(image), jpeg(image, exif=exif)]
    contents = [content[: len(content) // 2] + b"\xff\xd9" for content in contents]
    for number, content in enumerate(contents):
        (tmp_path / "images" / "a" / f"{number}.jpg").write_bytes(content)
    files = prepared(image_folder(tmp_path / "images"), Storage(longest=64, quality=90))
    others = prepared(Samples(contents.__getitem__, np.zeros(2, np.int64), "a test"), Storage(longest=64, quality=90))
    for samples, number in ((files, 0), (files, 1), (others, 0), (others, 1)):
        with pytest.raises(
            ValueError, match=r"^(.*/\d.jpg|sample \d of a test): the JPEG cannot be decoded: it is damaged"
        ):
            samples.image(number)


def test_larger_pixels_become_jpegs_and_the_rest_stay_as_they_are(image):
    pixels = [np.asarray(image.resize(side)) for side in ((256, 256), (257, 256))]
    samples = prepared(Samples(pixels.__getitem__, np.zeros(2, np.int64), "a test"), Storage(quality=80, compress=True))
    assert samples.image(0) is pixels[0]
    assert samples.image(1) == jpeg(Image.fromarray(pixels[1]), quality=80)


def test_pixels_that_do_not_fit_into_a_page_are_compressed(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    Image.new("RGB", (3000, 2000), (9, 99, 199)).save(tmp_path / "images" / "a" / "1.png")
    samples = image_folder(tmp_path / "images")
    with pytest.raises(ValueError, match="make it smaller with --max-resolution"):
        samples.stored(0)
    stored = prepared(samples, Storage(compress=True)).stored(0)
    assert (stored.mode, stored.width, stored.height) == (JPEG, 3000, 2000)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("background", ["white", "black"])
def test_transparent_pixels_lie_on_the_background(mode, background, tmp_path):
    drawn = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8), "RGBA").convert(mode)
    if mode == "P":
        drawn.info["transparency"] = bytes(np.random.default_rng(1).integers(0, 256, 256, np.uint8))
    (tmp_path / "a").mkdir()
    drawn.save(tmp_path / "a" / "1.png")
    ours = prepared(image_folder(tmp_path), Storage(background=background)).image(0)
    color = Image.open(tmp_path / "a" / "1.png").convert("RGBA")
    theirs = Image.alpha_composite(Image.new("RGBA", color.size, background), color).convert("RGB")
    assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1, "PIL rounds in two steps"


def test_a_background_that_is_no_choice_is_named():
    with pytest.raises(ValueError, match="--background must be white or black, got 'red'"):
        Storage(background="red")


def test_an_image_too_long_for_a_jpeg_is_named():
    long = Samples(lambda index: np.zeros((2, 66_000, 3), np.uint8), np.zeros(1, np.int64), "a test")
    with pytest.raises(
        ValueError, match="sample 0 of a test must have at most 65,500 pixels per side to become a JPEG"
    ):
        prepared(long, Storage(compress=True)).image(0)
