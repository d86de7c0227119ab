"""All images at a path: each kind of source gives every image, once, in order, under the name that it has there."""

import csv
import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.betons import damaged_beton
from twoview.bench.data.images import images_at
from twoview.loaders import beton
from twoview.loaders.datasets.samples import samples_from_arrays
from twoview.loaders.reference import decode

COUNT = 6
LABELS = [0, 1, 0, 1, 1, 0]
CLASSES = ("cat", "dog")
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 9, 3), np.uint8)


def png(number):
    content = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(content, "png")
    return content.getvalue()


def put(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))


def folder(place):
    names = {f"{number}.png": number for number in range(COUNT)}
    for name, number in names.items():
        put(place / "pets" / name, number)
    return "pets", {"train": names}, ()


def class_folders(place):
    names = {f"{CLASSES[label]}/{number}.png": number for number, label in enumerate(LABELS)}
    for name, number in names.items():
        put(place / "pets" / name, number)
    return "pets", {"train": dict(sorted(names.items()))}, CLASSES


def split_folders(place):
    names = {
        split: {f"{folder}/{CLASSES[LABELS[number]]}/{number}.png": number for number in numbers}
        for split, folder, numbers in (("train", "training", (0, 2, 1, 3)), ("test", "val", (5, 4)))
    }
    for name, number in (names["train"] | names["test"]).items():
        put(place / "pets" / name, number)
    return "pets", names, CLASSES


def listed(place):
    """One image lies outside of the list's folder."""
    names = {"../0.png": 0} | {f"in, deep/{number}.png": number for number in range(1, COUNT)}
    for name, number in names.items():
        put(place / "pets" / name, number)
    with open(place / "pets" / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows((name, CLASSES[LABELS[number]]) for name, number in names.items())
    return "pets/list.csv", {"train": names}, CLASSES


def parquet(place):
    """Two files of each split."""
    names = {"train": {}, "test": {}}
    (place / "pets").mkdir()
    for split, file, numbers in (("train", 0, (0, 1)), ("train", 1, (2, 3)), ("test", 0, (4,)), ("test", 1, (5,))):
        table = pa.table({"image": [png(n) for n in numbers], "label": [LABELS[n] for n in numbers]})
        pq.write_table(table, place / "pets" / f"{split}-{file}.parquet")
        names[split] |= {f"{split}-{file}.parquet/{row}": number for row, number in enumerate(numbers)}
    return "pets", names, ("0", "1")


def shards(place):
    (place / "pets").mkdir()
    names = {f"{number // 3}.tar/in/{number}.png": number for number in range(COUNT)}
    for shard in range(2):
        with tarfile.open(place / "pets" / f"{shard}.tar", "w") as file:
            for number in range(3 * shard, 3 * shard + 3):
                for suffix, content in (("png", png(number)), ("cls", str(LABELS[number]).encode())):
                    member = tarfile.TarInfo(f"in/{number}.{suffix}")
                    member.size = len(content)
                    file.addfile(member, io.BytesIO(content))
    return "pets/{0..1}.tar", {"train": names}, ("0", "1")


def saved(place):
    """As `save_to_disk` of the library `datasets` writes two splits."""
    for split, numbers in (("train", range(4)), ("test", range(4, COUNT))):
        part = place / "pets" / split
        part.mkdir(parents=True)
        table = pa.table({"image": [{"bytes": png(n), "path": None} for n in numbers]})
        with pa.OSFile(str(part / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        (part / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    (place / "pets" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    return "pets", {"train": {f"train/{row}": row for row in range(4)}, "test": {"test/0": 4, "test/1": 5}}, ()


def packed(place):
    for _ in beton.write(place / "pets.beton", COUNT, samples_from_arrays(PIXELS, LABELS, "pets").stored):
        pass
    return "pets.beton", {"train": {str(number): number for number in range(COUNT)}}, ("0", "1")


@pytest.mark.parametrize(
    "make",
    [folder, class_folders, split_folders, listed, parquet, shards, saved, packed],
    ids=lambda make: make.__name__,
)
def test_every_image_has_its_pixels_its_class_and_its_name(tmp_path, monkeypatch, make):
    path, names, classes = make(tmp_path)
    monkeypatch.chdir(tmp_path)
    for where in (path, str(tmp_path / path)):
        found = images_at(where, tmp_path / "betons", "raise")
        given = {part.split: [part.name(sample) for sample in range(len(part.file))] for part in found.parts}
        assert given == {split: list(some) for split, some in names.items()}
        assert len(found) == COUNT and found.classes == classes and not found.left_out
        for row, number in enumerate(number for some in names.values() for number in some.values()):
            file, sample = found.find(row)
            assert np.array_equal(decode(file, sample), PIXELS[number])
            assert file.labels[sample] == (LABELS[number] if classes else -1)
    with pytest.raises(IndexError, match="there are 6 images"):
        found.find(COUNT)


def test_a_name_of_bytes_that_are_no_text_is_escaped(tmp_path):
    folder(tmp_path)
    (tmp_path / "pets" / "0.png").rename(tmp_path / "pets" / "\udcff.png")
    (part,) = images_at(str(tmp_path / "pets"), tmp_path / "betons", "raise").parts
    assert part.name(COUNT - 1) == "\\xff.png"


def test_images_that_cannot_be_read_are_left_out_under_their_names(tmp_path):
    """Also if another call has converted them."""
    folder(tmp_path)
    for number in (1, 4):
        (tmp_path / "pets" / f"{number}.png").write_bytes(png(number)[:40])
    pets = str(tmp_path / "pets")
    with pytest.raises(ValueError, match=r"pets/1\.png cannot be read as an image"):
        images_at(pets, tmp_path / "betons", "raise")
    for _ in range(2):
        found = images_at(pets, tmp_path / "betons", "skip")
        assert found.left_out == ("1.png", "4.png") and len(found) == 4
        (part,) = found.parts
        assert [part.name(sample) for sample in range(4)] == ["0.png", "2.png", "3.png", "5.png"]
        assert all(np.array_equal(decode(part.file, row), PIXELS[n]) for row, n in enumerate((0, 2, 3, 5)))
    with pytest.raises(
        ValueError, match=r"2 of the images at .*pets cannot be read, such as 1\.png: skip or mend them"
    ):
        images_at(pets, tmp_path / "betons", "raise")


def test_damaged_samples_of_a_beton_are_left_out_by_number(photographs, tmp_path):
    path = damaged_beton(photographs, tmp_path / "damaged.beton", {3, 7}, 10).path
    found = images_at(str(path), tmp_path, "skip")
    (part,) = found.parts
    assert found.left_out == ("3", "7") and [part.name(row) for row in range(len(found))] == list("01245689")
    assert part.file.labels.tolist() == [100 + number for number in (0, 1, 2, 4, 5, 6, 8, 9)]
    assert len(images_at(str(path), tmp_path, "raise")) == 10, "without skip they are found only when they are decoded"
    none = damaged_beton(photographs, tmp_path / "none.beton", {0, 1}, 2).path
    with pytest.raises(ValueError, match="none of 2 samples can be decoded"):
        images_at(str(none), tmp_path, "skip")


def test_a_beton_that_does_not_hold_the_images_it_says_is_refused(tmp_path):
    pets, _, _ = folder(tmp_path)
    (part,) = images_at(str(tmp_path / pets), tmp_path / "betons", "raise").parts
    about = dict(part.file.about) | {"left_out_numbers": [2]}
    samples = samples_from_arrays(PIXELS, LABELS, "pets")
    assert part.file.about["left_out_numbers"] == []
    for _ in beton.write(part.file.path, COUNT, samples.stored, about=lambda: about):
        pass
    with pytest.raises(ValueError, match=r"must hold 5 of 6 images, got 6: delete it"):
        images_at(str(tmp_path / pets), tmp_path / "betons", "raise")


def test_an_empty_path_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the path of the images must be that of a folder or a file, got ''"):
        images_at("", tmp_path, "raise")
