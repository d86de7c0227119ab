"""Image files of every kind, and other files in folders, are treated as `loaders/IMAGES.md` says."""

import io
import os
import re
import socket
import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

from tests.support.corpus import PHOTOGRAPH, of_scans, saved
from twoview.cli import run
from twoview.loaders import kernels
from twoview.loaders.beton import JPEG, RAW, Beton, open_beton, write
from twoview.loaders.datasets import image_folder, packages, read_image
from twoview.loaders.images import check_jpeg, naming, restrain_pillow
from twoview.loaders.loader import Loader
from twoview.loaders.views import View

DOCUMENT = kernels.LOADERS / "IMAGES.md"


def table(first: str) -> dict[str, str]:
    """Return the rows of the tables whose first column is named `first`, as that column -> the other."""
    rows: dict[str, str] = {}
    header = ""
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = ""
        elif not header:
            header = cells[0]
        elif header == first and not cells[0].startswith("---"):
            assert cells[0] not in rows, f"{cells[0]} stands twice"
            rows[cells[0]] = cells[1]
    return rows


KINDS, PATHS = table("kind"), table("path in FOLDER")


def upright(content: bytes) -> np.ndarray:
    """Return the pixels as PIL reads them, on white if transparent, uint8 (H, W, 3). Raises what PIL raises."""
    with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
        warnings.simplefilter("ignore")  # of palettes with translucent colors
        image.load()
        with suppress(SyntaxError):  # damaged EXIF
            image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:  # laid on white
            pixels = np.asarray(image.convert("RGBA")).astype(np.float64)
            color, alpha = pixels[:, :, :3], pixels[:, :, 3:] / 255
            return np.floor(color * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
        return np.asarray(image.convert("RGB"))


@dataclass
class Converted:
    files: dict[str, Path]  # by kind
    beton: Beton
    kept: list[Path]  # by sample
    sentences: dict[Path, str]  # of the skipped files


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Converted:
    """Convert a folder with a file of every kind, and skip those that are refused."""
    from tests.support.corpus import KINDS as made

    folder = tmp_path_factory.mktemp("images") / "every" / "kind"
    folder.mkdir(parents=True)
    for name, content in made.values():
        (folder / name).write_bytes(content)
    samples, skipped = image_folder(folder.parent), {}
    path = folder.parent.with_suffix(".beton")
    for _ in write(path, len(samples), samples.stored, 1, skipped):
        pass
    sentences = {}
    for sentence in skipped.values():
        (file,) = (file for file in samples.files if sentence.startswith(file))
        sentences[Path(file)] = sentence
    kept = [Path(file) for file in samples.files if Path(file) not in sentences]
    return Converted({kind: folder / name for kind, (name, _) in made.items()}, open_beton(path), kept, sentences)


def test_the_table_has_every_kind(converted):
    assert list(KINDS) and set(KINDS) == set(converted.files)
    assert len(converted.kept) + len(converted.sentences) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_becomes_what_the_table_says(kind, converted):
    source, becomes, file = converted.files[kind], KINDS[kind], converted.beton
    if becomes not in ("its bytes", "pixels"):
        assert becomes == f"refused: `{converted.sentences[source].replace(str(source), 'FILE')}`"
        return
    assert source in converted.kept, converted.sentences.get(source)
    number, expected = converted.kept.index(source), upright(source.read_bytes())
    stored = file.file[file.pointers[number] : file.pointers[number] + file.sizes[number]]
    assert (file.heights[number], file.widths[number]) == expected.shape[:2]
    if becomes == "its bytes":
        assert file.modes[number] == JPEG and stored.tobytes() == source.read_bytes()
    else:
        assert file.modes[number] == RAW and np.array_equal(stored.reshape(expected.shape), expected)
    # Its center at its own resolution, as the loader makes it.
    side = min(expected.shape[:2])
    top, left = (round((length - side) / 2) for length in expected.shape[:2])
    view = View(side, scale=None, resize=side, flip=0.0)
    with Loader(file, (view,), 1, indices=np.array([number]), shuffle=False, threads=1) as loader:
        (batch,) = loader.epoch(0)
    assert np.array_equal(batch.views[0][0].permute(1, 2, 0).numpy(), expected[top : top + side, left : left + side])


def is_right(file: Path, content: bytes) -> None:
    """However the content was changed, it is refused with an error that names the file, or read as PIL reads it."""
    file.write_bytes(content)
    try:
        image = read_image(file)
    except ValueError as error:
        assert str(error).startswith(str(file)) and " at 0x" not in str(error)
        return
    assert image == content if isinstance(image, bytes) else np.array_equal(image, upright(content))


@pytest.mark.filterwarnings("ignore")  # PIL's, of damaged files
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_and_cut_files_are_refused_by_name_or_read_as_pil_reads_them(kind, converted, tmp_path):
    source = converted.files[kind]
    content, file = source.read_bytes(), tmp_path / source.name
    for tenth in range(10):
        is_right(file, content[: len(content) * tenth // 10])
    rng = np.random.default_rng(0)
    for reach in (60, 300, len(content)) if content else ():
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, min(reach, len(content)), 3)] = rng.integers(0, 256, 3)
        is_right(file, damaged.tobytes())


def test_what_folders_hold(tmp_path, capsys):
    """Classes and samples match the table, `convert` prints their numbers, and the folder is only read."""
    folder = tmp_path / "images"
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "JPEG")
    paths = {cell.strip("`"): becomes for cell, becomes in PATHS.items()}
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.getvalue())
    samples = image_folder(folder)
    wanted = sorted(path for path, becomes in paths.items() if becomes == "a sample")
    assert sorted(samples.files) == [str(folder / path) for path in wanted]
    classes = sorted({Path(path).parts[0] for path in wanted})
    assert samples.labels.tolist() == [classes.index(Path(f).relative_to(folder).parts[0]) for f in samples.files]

    def state() -> dict[Path, tuple[int, int]]:
        return {each: (each.stat().st_size, each.stat().st_mtime_ns) for each in (folder, *folder.rglob("*"))}

    for below in (folder, *folder.rglob("*")):
        below.chmod(0o555 if below.is_dir() else 0o444)  # the superuser can write anyway, so compare the times
    before = state()
    try:
        assert run(["convert", str(folder), str(tmp_path / "x.beton")]) == 0
    finally:
        for below in before:
            below.chmod(0o755)
    said = capsys.readouterr().out
    assert f"{folder}: class folders, {len(wanted)} train images of {len(classes)} classes (cat, größe 猫)" in said
    assert f"ignored: 1 images outside of the class folders, such as {folder}/1.jpg" in said
    assert state() == before


def test_links_lead_nowhere_twice(tmp_path):
    folder = tmp_path / "images"
    for name in ("a/1.png", "b/1.png", "b/below/2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (4, 4)).save(elsewhere / "3.png")
    for link, target in (("a/again", "."), ("a/up", ".."), ("b/below/back", "../../b"), ("all", "."), ("root", "/")):
        (folder / link).symlink_to(target)
    for link in ("a/there", "a/there-too", "c"):
        (folder / link).symlink_to(elsewhere)
    found = [str(Path(file).relative_to(folder)) for file in image_folder(folder).files]
    assert found == ["a/1.png", "a/there/3.png", "b/1.png", "b/below/2.png", "c/3.png"]


def test_names_that_no_encoding_has(tmp_path, capsys):
    """Names with Latin-1 bytes, line breaks and escapes: each file is converted, or listed on its own line."""
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    for name in map(os.fsdecode, (b"caf\xe9", b"line\nbreak", b"red \x1b[31m")):
        Image.new("RGB", (4, 4)).save(folder / "a" / f"{name}.png")
        (folder / "a" / f"{name}.jpg").touch()
    assert run(["convert", str(folder), str(tmp_path / "x.beton"), "--on-error", "skip"]) == 0
    out = capsys.readouterr().out
    assert {each for each in out if not each.isprintable()} == {"\n"}
    assert len(re.findall(r"^skipped: .*\.jpg cannot be read as an image: it is empty$", out, re.M)) == 3
    assert len(open_beton(tmp_path / "x.beton")) == 3


def test_where_all_is_left_out_one_of_them_says_why(tmp_path, capsys):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "x.jpg").symlink_to("/nowhere/x.jpg")
    assert run(["convert", str(tmp_path / "images"), str(tmp_path / "x.beton"), "--on-error", "skip"]) == 2
    assert re.search(
        r"no samples to write: every sample was skipped; .*x\.jpg cannot be read: No such file", capsys.readouterr().err
    )


@pytest.mark.parametrize("count", [1000, pytest.param(100_000, marks=pytest.mark.long)])
def test_as_many_classes(count, tmp_path):
    image = tmp_path / "one.png"
    Image.new("RGB", (1, 1)).save(image)
    for number in range(count):
        (tmp_path / "images" / f"n{number:08d}").mkdir(parents=True)
        (tmp_path / "images" / f"n{number:08d}" / "1.png").symlink_to(image)
    samples = image_folder(tmp_path / "images")
    for _ in write(tmp_path / "a.beton", len(samples), samples.stored):
        pass
    assert np.array_equal(open_beton(tmp_path / "a.beton").labels, np.arange(count))


def test_a_file_that_another_library_hands_over_damaged_is_named():
    class Opened:
        def __getitem__(self, index):
            raise SyntaxError("broken PNG file")

    with pytest.raises(ValueError, match="sample 3 of hf:one/two cannot be read as an image: broken PNG file"):
        packages._images("hf:one/two", Opened())(3)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """Return the path of a file that exists once a program with Ghostscript's name has been started."""
    programs, started = tmp_path / "bin", tmp_path / "started"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {started}\necho 10.0\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return started


def test_no_program_is_started_by_a_folder_s_images(ghostscript, tmp_path):
    (tmp_path / "photo.png").write_bytes(POSTSCRIPT)
    with pytest.raises(ValueError, match=r"photo\.png cannot be read as an image: it is damaged, or none of JPEG"):
        read_image(tmp_path / "photo.png")
    assert not ghostscript.exists()


def test_no_program_is_started_by_what_another_library_opens(ghostscript, tmp_path):
    (tmp_path / "1.jpg").write_bytes(POSTSCRIPT)

    class Opened:
        def __getitem__(self, index):
            return (Image.open(tmp_path / "1.jpg"),)

    restrain_pillow()
    with pytest.raises(ValueError, match="sample 0 of it cannot be read as an image: Unable to locate Ghostscript"):
        packages._images("it", Opened())(0)
    assert not ghostscript.exists()


def test_memory_that_runs_out_is_no_damage():
    with pytest.raises(MemoryError), naming("a.png"):
        raise MemoryError


@pytest.mark.timeout(60)
def test_what_is_no_image_file_is_left_out_and_never_waited_for(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "1.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zero.png").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
    with open(folder / "huge.jpg", "wb") as file:
        file.truncate(100_000_000_000)
    assert run(["convert", str(folder.parent), str(tmp_path / "x.beton"), "--on-error", "skip"]) == 0
    said = dict(re.findall(r"^skipped: .*/a/(\w+)\.\w+ (.*)$", capsys.readouterr().out, re.M))
    assert said == {
        "pipe": "must be a file, got a pipe or a device",
        "zero": "must be a file, got a pipe or a device",
        "socket": "cannot be read: No such device or address",
        "huge": "must have at most 536,870,912 bytes, got 100,000,000,000; "
        "the environment variable TWOVIEW_MAX_IMAGE_BYTES raises this limit",
    }


def test_a_conversion_into_a_pipe_is_refused_before_an_image_is_read(tmp_path, capsys):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "damaged.jpg").touch()
    os.mkfifo(tmp_path / "x.beton")
    assert run(["convert", str(tmp_path / "images"), str(tmp_path / "x.beton"), "--force"]) == 2
    assert f"twoview: {tmp_path}/x.beton must be a file, got a pipe or a device\n" in capsys.readouterr().err
    assert (tmp_path / "x.beton").is_fifo()


def test_scans_are_counted_up_to_the_end_of_the_image():
    color, cmyk = PHOTOGRAPH, PHOTOGRAPH.convert("CMYK")
    assert check_jpeg(of_scans(500, color), "a") and check_jpeg(of_scans(20, color) + of_scans(501, color), "a")
    assert not check_jpeg(of_scans(500, cmyk), "a") and not check_jpeg(of_scans(20, cmyk) + of_scans(501, cmyk), "a")


def test_nothing_of_pillow_s_reaches_stderr(tmp_path):
    """Pillow warns about a TIFF whose description is longer than the file, and logs an error for too many channels."""
    content = saved(Image.new("RGB", (10, 10)), "TIFF", description="a cat")
    for name, entry, odd in (
        ("long.tif", struct.pack("<HHI", 270, 2, 6), struct.pack("<HHI", 270, 2, 2**31 - 1)),
        ("many.tif", struct.pack("<HHIH", 277, 3, 1, 3), struct.pack("<HHIH", 277, 3, 1, 65_535)),
    ):
        assert content.count(entry) == 1
        (tmp_path / name).write_bytes(content.replace(entry, odd))
    program = """
import sys, pathlib
from twoview.loaders.datasets import read_image
print(read_image(pathlib.Path("long.tif")).shape)
try:
    read_image(pathlib.Path("many.tif"))
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\(10, 10, 3\)\nmany\.tif cannot be read as an image: .*\n", done.stdout)
