"""`twoview convert`, `inspect` and `verify`, as a user runs them."""

import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from twoview.bench.config.experiment import Place
from twoview.bench.data.betons import dataset_beton, identity
from twoview.bench.data.conversion import convert, dataset_origin
from twoview.bench.evaluation.probing import Bench, left_out
from twoview.bench.evidence import LeftOut
from twoview.cli import run
from twoview.loaders import beton, datasets
from twoview.loaders.beton import open_beton
from twoview.loaders.datasets.imagenets import _IMAGENETTE as IMAGENETTE
from twoview.loaders.datasets.samples import samples_from_files

IMAGENETTES = datasets.dataset("imagenette")


def result(capsys, *words):
    assert run([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def folder(photographs, tmp_path):
    """Four JPEGs and a PNG in two classes."""
    for label, name in ((0, "cats"), (1, "dogs")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2 * label, 2 * label + 2):
            start = photographs.pointers[i]
            content = photographs.file[start : start + photographs.sizes[i]]
            (tmp_path / "images" / name / f"{i}.jpg").write_bytes(content.tobytes())
    Image.fromarray(np.zeros((50, 400, 3), np.uint8)).save(tmp_path / "images" / "dogs" / "z.png")
    return tmp_path / "images"


def test_inspect_counts_samples_and_classes(folder, tmp_path, capsys):
    path = tmp_path / "a.beton"
    result(capsys, "convert", folder, path)
    about = result(capsys, "inspect", path)
    file = open_beton(path)
    assert about["samples"] == 5 and about["jpeg"] == 4 and about["raw"] == 1 and about["checksums"]
    assert about["classes"] == {"0": 2, "1": 3}
    assert about["height"] == {"least": 50, "median": np.median(file.heights), "most": file.heights.max()}
    assert sum(about["longer_side"].values()) == 5
    assert about["bytes"] == path.stat().st_size
    assert identity(file) == {"a": about["index_xxh64"]} and len(about["index_xxh64"]) == 16
    assert run(["inspect", str(path)]) == 0
    assert "0: 2, 1: 3" in capsys.readouterr().out


def test_a_damaged_image_stops_the_conversion_or_is_skipped_by_name(tmp_path, capsys):
    for wnid in IMAGENETTE:
        (tmp_path / "imagenette2" / "train" / wnid).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "imagenette2" / "train" / wnid / "0.JPEG")
    (tmp_path / "imagenette2" / "train" / wnid / "1.JPEG").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"1\.JPEG cannot be read as an image"):
        dataset_beton(IMAGENETTES, "train", tmp_path, tmp_path)
    assert len(dataset_beton(IMAGENETTES, "train", tmp_path, tmp_path, damaged="skip")) == 10
    assert f"skipped: {tmp_path}/imagenette2/train/{wnid}/1.JPEG" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_outside_the_datasets_classes_are_named(label, tmp_path):
    samples = datasets.samples.samples_from_arrays(np.zeros((3, 8, 8, 3), np.uint8), [0, label, 9], "black images")
    convert(samples, tmp_path / "imagenette-train.beton", "black", 1, origin=dataset_origin(IMAGENETTES, "train"))
    sentence = f"imagenette-train.beton: labels of imagenette must be from 0 to 9, got {label} for sample 1"
    with pytest.raises(ValueError, match=sentence):
        dataset_beton(IMAGENETTES, "train", tmp_path, None)


def test_convert_shrinks_and_overwrites_only_if_asked(folder, tmp_path, capsys):
    path = tmp_path / "a.beton"
    result(capsys, "convert", folder, path)
    assert run(["convert", str(folder), str(path), "--max-resolution", "100"]) == 2
    assert "--force" in capsys.readouterr().err
    result(capsys, "convert", folder, path, "--max-resolution", 100, "--quality", 75, "--force")
    file = open_beton(path)
    assert np.maximum(file.heights, file.widths).tolist() == [100] * 5
    assert file.heights[4] == 12, "50 x 400, rounded half to even"


def test_verify_finds_changed_bytes_and_exits_with_2(folder, tmp_path, capsys):
    path = tmp_path / "a.beton"
    result(capsys, "convert", folder, path)
    about = result(capsys, "verify", path)
    assert about["damaged"] == {} and about["gb_per_s"] > 0
    file = open_beton(path)
    content = bytearray(path.read_bytes())
    content[int(file.pointers[2]) + 700] ^= 16
    path.write_bytes(content)
    assert run(["verify", str(path), "--json"]) == 2
    out = capsys.readouterr()
    assert list(json.loads(out.out)["damaged"]) == ["2"]
    assert "1 of 5 samples are damaged; sample 2: the sample's bytes are not those that were written" in out.err


def test_damaged_sources_are_named_or_skipped(folder, tmp_path, capsys):
    path, cut = tmp_path / "a.beton", folder / "cats" / "0.jpg"
    cut.write_bytes(cut.read_bytes()[:9000])
    assert run(["convert", str(folder), str(path)]) == 2
    assert f"{cut}: the JPEG cannot be decoded" in capsys.readouterr().err
    assert not path.exists()
    about = result(capsys, "convert", folder, path, "--on-error", "skip")
    assert about["samples"] == 4 and len(about["skipped"]) == 1 and str(cut) in about["skipped"][0]
    assert open_beton(path).labels.tolist() == [0, 1, 1, 1]


def test_the_identity_depends_only_on_the_samples(tmp_path):
    def index(name, pixel=0, label=0):
        sample = beton.Stored(beton.RAW, 1, 1, bytes([pixel, 0, 0]), label)
        list(beton.write(tmp_path / name, 1, lambda _: sample))
        return identity(open_beton(tmp_path / name)).popitem()[1]

    assert index("a.beton") == index("b.beton")
    assert len({index("a.beton"), index("c.beton", pixel=1), index("d.beton", label=1)}) == 3


def imagenette(root, split="val", images=1):
    for wnid in IMAGENETTE:
        (root / "imagenette2" / split / wnid).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            Image.new("RGB", (8, 8)).save(root / "imagenette2" / split / wnid / f"{number}.JPEG")
    return root


def test_a_file_says_what_it_was_converted_from(tmp_path, folder, capsys):
    root = imagenette(tmp_path / "root")
    (root / "imagenette2" / "val" / next(iter(IMAGENETTE)) / "z.JPEG").write_bytes(b"")
    result(
        capsys,
        "convert",
        "imagenette",
        tmp_path / "a.beton",
        "--split",
        "test",
        "--data-root",
        root,
        "--on-error",
        "skip",
    )
    about = result(capsys, "inspect", tmp_path / "a.beton")
    listing = datasets.dataset("imagenette").read(root, "test").listing()
    classes = list(IMAGENETTES.names())
    made_of = {"dataset": "imagenette", "split": "test", "classes": classes, "listing": listing, "left_out": 1}
    assert about["made_of"] == made_of
    assert about["left_out"] == [f"{next(iter(IMAGENETTE))}/z.JPEG"]
    assert left_out(open_beton(tmp_path / "a.beton")) == {"a": LeftOut(images=1, names=about["left_out"])}
    result(capsys, "convert", folder, tmp_path / "b.beton")
    made_of = result(capsys, "inspect", tmp_path / "b.beton")["made_of"]
    assert made_of["dataset"] == f"own:{folder.name}" and made_of["classes"] == ["cats", "dogs"]
    assert left_out(open_beton(tmp_path / "b.beton")) == {}
    assert run(["inspect", str(tmp_path / "a.beton")]) == 0
    assert "dataset: imagenette, split: test" in capsys.readouterr().out


def test_a_beton_is_refused_if_the_data_root_has_other_images(tmp_path):
    first = imagenette(tmp_path / "first")
    assert len(dataset_beton(IMAGENETTES, "test", tmp_path, first)) == 10
    assert len(dataset_beton(IMAGENETTES, "test", tmp_path, imagenette(tmp_path / "copy"))) == 10, "a copy elsewhere"
    assert len(dataset_beton(IMAGENETTES, "test", tmp_path, None)) == 10, "betons work without their images"
    path = tmp_path / "imagenette-test.beton"
    for count, root in ((20, imagenette(tmp_path / "other", images=2)), (11, first)):
        (first / "imagenette2" / "val" / next(iter(IMAGENETTE)) / "new.JPEG").write_bytes(b"anything")
        with pytest.raises(ValueError) as refused:
            dataset_beton(IMAGENETTES, "test", tmp_path, root)
        assert str(refused.value) == (
            f"{path} is out of date: it was converted from 10 images, and {root}/imagenette2/val has {count} with "
            "other names or labels now: delete the file, or use another folder with --betons"
        )


def test_an_incomplete_dataset_is_refused_but_a_missing_one_is_not(tmp_path):
    root = imagenette(tmp_path / "root")
    dataset_beton(IMAGENETTES, "test", tmp_path, root)
    shutil.rmtree(root / "imagenette2" / "val" / next(iter(IMAGENETTE)))
    with pytest.raises(FileNotFoundError, match=f"the class folder .*{next(iter(IMAGENETTE))} is missing"):
        dataset_beton(IMAGENETTES, "test", tmp_path, root)
    shutil.rmtree(root / "imagenette2")
    assert len(dataset_beton(IMAGENETTES, "test", tmp_path, root)) == 10


def test_renaming_or_relabeling_images_changes_the_listing(tmp_path):
    root = imagenette(tmp_path / "root")
    one, two, *_ = (root / "imagenette2" / "val" / wnid for wnid in IMAGENETTE)
    whole = datasets.dataset("imagenette").read(root, "test").listing()
    (one / "0.JPEG").rename(one / "1.JPEG")
    renamed = datasets.dataset("imagenette").read(root, "test").listing()
    (one / "1.JPEG").rename(one / "0.JPEG")
    assert datasets.dataset("imagenette").read(root, "test").listing() == whole
    (one / "0.JPEG").rename(two / "1.JPEG")
    (two / "0.JPEG").rename(one / "0.JPEG")
    assert len({whole, renamed, datasets.dataset("imagenette").read(root, "test").listing()}) == 3


def test_a_beton_converted_from_something_else_is_refused(tmp_path, folder, capsys):
    root = imagenette(tmp_path / "root")
    path = tmp_path / "imagenette-train.beton"
    for words, made_of in (
        (("imagenette", path, "--split", "test", "--data-root", root), "imagenette's test images"),
        ((folder, path), f"own:{folder.name}'s train images"),
    ):
        result(capsys, "convert", *words, "--force")
        with pytest.raises(
            ValueError, match=f"must be converted from imagenette's train images, but was converted from {made_of}"
        ):
            dataset_beton(IMAGENETTES, "train", tmp_path, None)


def test_escape_sequences_in_names_are_printed_as_text(tmp_path, capsys):
    root = imagenette(tmp_path / "root", "train")
    (root / "imagenette2" / "train" / next(iter(IMAGENETTE)) / "\x1b[2J.JPEG").write_bytes(b"")
    dataset_beton(IMAGENETTES, "train", tmp_path, root, damaged="skip")
    said = capsys.readouterr().err
    assert "\\x1b[2J.JPEG" in said.replace("\n", "") and "\x1b[2J.JPEG" not in said


def test_evidence_names_the_skipped_images(tmp_path, capsys):
    root = imagenette(tmp_path / "root", "train")
    (root / "imagenette2" / "train" / next(iter(IMAGENETTE)) / os.fsdecode(b"\xe9.JPEG")).write_bytes(b"")
    (root / "imagenette2" / "train" / next(iter(IMAGENETTE)) / "z.JPEG").write_bytes(b"")
    dataset_beton(IMAGENETTES, "train", tmp_path, root, damaged="skip")
    settings = SimpleNamespace(held_out=0, train_images=0)
    bench = Bench(None, datasets.dataset("imagenette"), settings, Place(tmp_path, tmp_path, root))
    bench.used("train")
    names = [f"{next(iter(IMAGENETTE))}/z.JPEG", f"{next(iter(IMAGENETTE))}/\\xe9.JPEG"]
    assert bench.left_out == {"imagenette-train": LeftOut(images=2, names=names)}
    assert bench.left_out["imagenette-train"].model_dump_json().isascii()
    assert f"{tmp_path}/imagenette-train.beton lacks 2 images that could not be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "relative"),
    [
        (["/d/a/1", "/d/b/1"], ["a/1", "b/1"]),
        (["/d/b-c/y", "/d/b/x"], ["b-c/y", "b/x"]),
        (["a/1", "a/2"], ["1", "2"]),
        (["1", "2"], ["1", "2"]),
        (["/1", "/a/2"], ["1", "a/2"]),
        (["/d/a/1"], ["1"]),
    ],
)
def test_paths_are_relative_to_the_common_folder(files, relative):
    assert samples_from_files(files, [0] * len(files), "here").relative == relative


def test_inspect_shows_every_field_on_one_line(tmp_path, capsys, monkeypatch):
    list(beton.write(tmp_path / "a.beton", 1, lambda index: beton.Stored(beton.RAW, 8, 8, bytes(192), 0)))
    opened = open_beton
    fields = (("im\n\x1b[31m", "RGB image"), ("label", "integer"), ("label", "float"))
    monkeypatch.setattr(beton, "open_beton", lambda path: replace(opened(path), fields=fields))
    assert run(["inspect", str(tmp_path / "a.beton")]) == 0
    said = capsys.readouterr().out
    assert "fields              im\\n\\x1b[31m: RGB image, label: integer, label: float\n" in said
