"""`twoview convert`, `inspect` and `verify`, as a user meets them."""

import json

import numpy as np
import pytest
from PIL import Image

from bench.betons import identity, of_dataset
from bench.cli import run
from loaders import beton, datasets
from loaders.beton import open_beton
from loaders.datasets.imagenets import _IMAGENETTE as IMAGENETTE


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


def test_inspect_counts_what_is_there(folder, tmp_path, capsys):
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


def test_a_damaged_image_stops_the_conversion_or_is_left_out_by_name(tmp_path, capsys):
    for wnid in IMAGENETTE:
        (tmp_path / "imagenette2" / "train" / wnid).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "imagenette2" / "train" / wnid / "0.JPEG")
    (tmp_path / "imagenette2" / "train" / wnid / "1.JPEG").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"1\.JPEG cannot be read as an image"):
        of_dataset("imagenette", "train", tmp_path, tmp_path)
    assert len(of_dataset("imagenette", "train", tmp_path, tmp_path, damaged="skip")) == 10
    assert f"left out: {tmp_path}/imagenette2/train/{wnid}/1.JPEG" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_that_are_no_classes_of_the_dataset_are_named(label, tmp_path):
    samples = datasets.samples.of_arrays(np.zeros((3, 8, 8, 3), np.uint8), [0, label, 9], "black images")
    for _ in beton.write(tmp_path / "imagenette-train.beton", 3, samples.stored):
        pass
    sentence = f"imagenette-train.beton: labels of imagenette must be from 0 to 9, got {label} of sample 1"
    with pytest.raises(ValueError, match=sentence):
        of_dataset("imagenette", "train", tmp_path, None)


def test_convert_shrinks_and_overwrites_only_when_told(folder, tmp_path, capsys):
    path = tmp_path / "a.beton"
    result(capsys, "convert", folder, path)
    assert run(["convert", str(folder), str(path), "--max-resolution", "100"]) == 2
    assert "--force" in capsys.readouterr().err
    result(capsys, "convert", folder, path, "--max-resolution", 100, "--quality", 75, "--force")
    file = open_beton(path)
    assert np.maximum(file.heights, file.widths).tolist() == [100] * 5
    assert file.heights[4] == 12, "50 x 400, rounded half to even"


def test_verify_finds_what_changed_and_ends_with_2(folder, tmp_path, capsys):
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


def test_damaged_sources_are_named_or_left_out(folder, tmp_path, capsys):
    path, cut = tmp_path / "a.beton", folder / "cats" / "0.jpg"
    cut.write_bytes(cut.read_bytes()[:9000])
    assert run(["convert", str(folder), str(path)]) == 2
    assert f"{cut}: the JPEG cannot be decoded" in capsys.readouterr().err
    assert not path.exists()
    about = result(capsys, "convert", folder, path, "--skip-damaged")
    assert about["samples"] == 4 and len(about["skipped"]) == 1 and str(cut) in about["skipped"][0]
    assert open_beton(path).labels.tolist() == [0, 1, 1, 1]


def test_files_of_the_same_samples_and_no_others_have_the_same_identity(tmp_path):
    def index(name, pixel=0, label=0):
        sample = beton.Stored(beton.RAW, 1, 1, bytes([pixel, 0, 0]), label)
        list(beton.write(tmp_path / name, 1, lambda _: sample))
        return identity(open_beton(tmp_path / name)).popitem()[1]

    assert index("a.beton") == index("b.beton")
    assert len({index("a.beton"), index("c.beton", pixel=1), index("d.beton", label=1)}) == 3
