"""Images of your own, in every form in which they may lie at a path.

A plain folder is the reference: the same files in any other form give the same samples.
"""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets as hub
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.corpus import KINDS
from twoview.loaders.datasets.samples import SUFFIXES, as_stored
from twoview.loaders.sources import Source, open_source
from twoview.loaders.sources.tar import members


def image(value: int = 0, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (value, 100, 200)).save(buffer, format)
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def by_name(source: Source, split: str = "train") -> dict[str, str]:
    """Return file name -> class name."""
    samples = source.splits[split]
    return {
        os.path.basename(file): source.classes[label] if label >= 0 else ""
        for file, label in zip(samples.files, samples.labels, strict=True)
    }


# --- folders


def test_class_folders_give_labels_in_the_order_of_their_names(tmp_path):
    for name, count in (("dog", 1), ("cat", 2)):
        for number in range(count):
            put(tmp_path / name / f"{name}{number}.jpg", image())
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog") and source.splits["train"].labels.tolist() == [0, 0, 1]
    assert source.text() == f"{tmp_path}: class folders, 3 train images of 2 classes (cat, dog)"


@pytest.mark.parametrize(
    "names", [["1.jpg", "2.png"], ["2023/1.jpg"], ["2023/05/1.jpg", "2023/06/2.jpg"], ["1.jpg", "a/2.jpg"]]
)
def test_other_folders_give_images_without_labels(names, tmp_path):
    for name in names:
        put(tmp_path / name, image())
    source = open_source(str(tmp_path))
    assert source.classes == () and set(source.splits) == {"train"}
    assert sorted(os.path.relpath(file, tmp_path) for file in source.splits["train"].files) == names
    assert source.splits["train"].labels.tolist() == [-1] * len(names)


def test_folders_called_like_splits_are_splits(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog") if split == "train" else ("dog",):
            for number in range(2):
                put(tmp_path / split / name / f"{split}-{name}{number}.jpg", image())
    (tmp_path / "val" / "dog" / "val-dog0.jpg").rename(put(tmp_path / "val" / "cat" / "val-cat0.jpg", b""))
    source = open_source(str(tmp_path))
    assert set(source.splits) == {"train", "test"} and source.classes == ("cat", "dog")
    assert by_name(source, "test") == {"val-cat0.jpg": "cat", "val-dog1.jpg": "dog"}


def test_a_test_folder_without_labels_is_not_used_for_testing(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg", "val/cat/4.jpg", "val/dog/5.jpg"):
        put(tmp_path / name, image())
    source = open_source(str(tmp_path))
    assert by_name(source, "test") == {"4.jpg": "cat", "5.jpg": "dog"}
    assert "the split test is not used: it has no labels" in source.ignored


def test_a_test_class_that_the_training_images_lack_is_named(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "val/cat/4.jpg", "val/horse/5.jpg"):
        put(tmp_path / name, image())
    with pytest.raises(ValueError, match=r"val/horse must be a class of the training images too, of 2"):
        open_source(str(tmp_path))


def test_what_is_ignored_is_said(tmp_path):
    for name in (
        "cat/1.jpg",
        "cat/2.jpg",
        "dog/3.jpg",
        "dog/._3.jpg",
        "cover.jpg",
        "notes.txt",
        "dog/labels.csv",
        "empty/readme.md",
    ):
        put(tmp_path / name, image())
    (tmp_path / "dog" / "all").symlink_to(tmp_path)
    source = open_source(str(tmp_path))
    assert by_name(source) == {"1.jpg": "cat", "2.jpg": "cat", "3.jpg": "dog"}
    said = "\n".join(source.ignored)
    for words in (
        f"ignored: 1 hidden or system files and folders, such as {tmp_path}/dog/._3.jpg",
        f"ignored: 1 images outside of the class folders, such as {tmp_path}/cover.jpg",
        f"ignored: 3 files without the suffix of an image, such as {tmp_path}/dog/labels.csv",
        f"ignored: 1 links to folders that were read already, such as {tmp_path}/dog/all",
    ):
        assert words in said


SEGMENT = st.sampled_from(["a", "b", "train", "val", ".hidden", "x y", "é"])
TREE = st.dictionaries(
    st.tuples(st.lists(SEGMENT, max_size=3), st.sampled_from(["1.jpg", "2.PNG", "._1.jpg", "notes.txt"])).map(
        lambda parts: "/".join([*parts[0], parts[1]])
    ),
    st.none(),
    min_size=1,
    max_size=8,
)


@given(tree=TREE)
def test_every_image_of_any_folder_is_used_once_or_said_to_be_ignored(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    for name in tree:
        put(folder / name, b"")
    parts = {name: name.split("/") for name in tree}
    images = {n for n, p in parts.items() if n[-4:].lower() in SUFFIXES and not any(one.startswith(".") for one in p)}
    if not images:
        with pytest.raises(FileNotFoundError, match="holds no image"):
            open_source(str(folder))
        return
    try:
        source = open_source(str(folder))
    except (ValueError, FileNotFoundError) as error:
        assert "must be a class of the training images" in str(error) or "holds no image" in str(error)
        assert any("val" in p or "train" in p for p in parts.values())
        return
    used = [os.path.relpath(file, folder) for one in source.splits.values() for file in one.files]
    assert len(used) == len(set(used)) and set(used) <= images
    said = "\n".join(source.ignored)
    assert set(used) == images or "outside of the class folders" in said or "is not used" in said
    if source.classes:
        depth = 1 if set(source.splits) == {"train"} and "of splits" not in source.kind else 2
        labels = np.concatenate([one.labels for one in source.splits.values()])
        assert [source.classes[label] for label in labels] == [name.split("/")[depth - 1] for name in used]


# --- lists


def test_a_list_has_paths_relative_to_itself_with_numbers_or_names_or_nothing(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b, c.jpg"):
        put(tmp_path / name, image())
    for text, labels, classes in (
        ("a/1.jpg\na/2.jpg\n", [-1, -1], ()),
        ("path,label\na/1.jpg,2\n\na/2.jpg,0\n", [2, 0], ("0", "1", "2")),
        ('a/1.jpg,dog\n"b, c.jpg",cat\na/2.jpg,\n', [1, 0, -1], ("cat", "dog")),
        (f"{tmp_path}/a/1.jpg,cat\r\na/1.jpg,cat\r\n", [0, 0], ("cat",)),
    ):
        listed = put(tmp_path / "list.csv", text.encode())
        source = open_source(str(listed))
        assert (source.splits["train"].labels.tolist(), source.classes) == (labels, classes)
        assert all(os.path.isfile(file) for file in source.splits["train"].files)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "must name at least one image"),
        ("a.jpg,1,2\n", r"line 1 must be a path, or a path, a comma and a label, got \['a.jpg', '1', '2'\]"),
        ("gone.jpg,1\n", r"lists .*gone\.jpg, which does not exist"),
    ],
)
def test_a_list_in_another_form_is_refused(text, error, tmp_path):
    put(tmp_path / "a.jpg", image())
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        open_source(str(put(tmp_path / "list.txt", text.encode())))


# --- tar shards


def tar_of(path: Path, files: dict[str, bytes], format: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            add(tar, name, content)
    return path


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join).filter(lambda name: not name.endswith("/"))


@given(
    files=st.dictionaries(PATHS, st.binary(max_size=1500), max_size=6),
    format=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    mtime=st.sampled_from([0, 1764000000.25, 2**40]),
)
def test_members_are_those_that_tarfile_finds(files, format, mtime, tmp_path_factory):
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    with tarfile.open(path, "w", format=format) as tar:
        for number, (name, content) in enumerate(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime
            if number % 3 == 1:
                info.type, info.size = tarfile.DIRTYPE, 0
            if number % 3 == 2:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "x" * 150, 0
            try:
                tar.addfile(info, io.BytesIO(content))
                add(tar, f"{number}.plain", content)
            except (ValueError, UnicodeError):  # ustar has no room for the name
                return
    with tarfile.open(path) as tar:
        wanted = [(one.name, one.offset_data, one.size) for one in tar if one.isreg()]
    found = members(path)
    got = [(found.name(i), int(found.starts[i]), int(found.sizes[i])) for i in range(len(found.starts))]
    assert got == wanted


def test_names_too_long_for_a_header_and_sizes_beyond_octal_digits(tmp_path):
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tar_of(
            tmp_path / "a.tar", {"d/" * 80 + "1.jpg": image(1), "2.jpg": image(2), "é" * 90 + ".jpg": image(3)}, format
        )
        source = open_source(str(path))
        assert [source.splits["train"].image(i) for i in range(3)] == [image(1), image(2), image(3)]


def test_shards_of_webdataset(tmp_path):
    files = {
        "000/a.jpg": image(1), "000/a.cls": b"3", "000/a.json": b"{}",
        "000/b.jpg": image(2), "000/b.cls": b"0\n",
    }  # fmt: skip
    tar_of(tmp_path / "shards" / "00.tar", files)
    tar_of(tmp_path / "shards" / "01.tar", {"c.jpg": image(3), "._c.jpg": b"", "d.seg.png": b"", "e.cls": b"1"})
    for path in ("shards", "shards/{00..01}.tar", "shards/*.tar"):
        source = open_source(str(tmp_path / path))
        samples = source.splits["train"]
        assert [samples.image(i) for i in range(3)] == [image(1), image(2), image(3)]
        assert samples.labels.tolist() == [3, 0, -1] and source.classes == ("0", "1", "2", "3")
        assert source.ignored == (
            "ignored: 1 .json files, 1 hidden files, 1 .seg.png files, 1 labels without an image",
        )


def test_labels_of_shards_may_be_names_and_shards_may_be_of_splits(tmp_path):
    tar_of(tmp_path / "train-0.tar", {"a.jpg": image(1), "a.cls": b"dog", "b.jpg": image(2), "b.cls": b"cat"})
    tar_of(tmp_path / "val-0.tar", {"a.jpg": image(3), "a.cls": b"cat"})
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert [one.labels.tolist() for one in source.splits.values()] == [[1, 0], [0]]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", r"a\.tar is not a tar file, or is damaged: it is cut short"),
        (bytes(1024), r"a\.tar must hold images to train on, got none in 1 tar files"),
        (
            b"no tar file at all" * 100,
            r"a\.tar is not a tar file, or is damaged: there is no header of a member at byte 0",
        ),
    ],
)
def test_what_is_no_tar_file_is_refused(content, error, tmp_path):
    with pytest.raises(ValueError, match=error):
        open_source(str(put(tmp_path / "a.tar", content)))


def test_a_shard_that_is_cut_short_or_has_a_name_twice_is_refused(tmp_path):
    path = tar_of(tmp_path / "a.tar", {"1.jpg": image(1), "2.jpg": image(2)})
    whole = path.read_bytes()
    for length in (300, 600, 1400, 1600):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.tar is not a tar file, or is damaged"):
            open_source(str(path))
    tar_of(path, {"1.jpg": image(1), "1.png": image(2, "PNG")})
    with pytest.raises(ValueError, match=r"a\.tar must hold one image per sample, got 1\.jpg and 1\.png"):
        open_source(str(path))
    tar_of(path, {"1.jpg": image(1), "1.cls": b"x" * 101})
    with pytest.raises(ValueError, match=r"a\.tar/1\.cls must have at most 100 bytes, got 101"):
        open_source(str(path))


# --- tables


def test_parquet_of_pandas(tmp_path):
    frame = pd.DataFrame(
        {"image": [image(i) for i in range(100)], "label": ["cat", "dog"] * 50, "caption": ["x"] * 100}
    )
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=7)
    source = open_source(str(tmp_path / "a.parquet"))
    assert source.classes == ("cat", "dog") and source.splits["train"].labels.tolist() == [0, 1] * 50
    assert source.ignored == ("ignored: the columns caption",)
    for row in (0, 99, 3, 3, 50, 98):
        assert source.splits["train"].image(row) == image(row)


def rows(count: int, features: hub.Features | None) -> hub.Dataset:
    content = {
        "picture": [{"bytes": image(i), "path": None} for i in range(count)],
        "kind": [i % 2 for i in range(count)],
    }
    return hub.Dataset.from_dict(content, features=features)


FEATURES = hub.Features(picture=hub.Image(), kind=hub.ClassLabel(names=["cat", "dog"]))


def test_parquet_of_the_hugging_face_hub(tmp_path):
    rows(5, FEATURES).to_parquet(tmp_path / "data" / "train-00000-of-00002.parquet")
    rows(4, FEATURES).to_parquet(tmp_path / "data" / "train-00001-of-00002.parquet")
    rows(3, FEATURES).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    source = open_source(str(tmp_path))
    train, test = source.splits["train"], source.splits["test"]
    assert source.classes == ("cat", "dog") and (len(train), len(test)) == (9, 3)
    assert [train.image(i) for i in range(9)] == [image(i) for i in (*range(5), *range(4))]
    assert test.labels.tolist() == [0, 1, 0] and test.image(2) == image(2)


def test_a_saved_dataset(tmp_path):
    rows(5, FEATURES).save_to_disk(tmp_path / "one")
    hub.DatasetDict(train=rows(5, FEATURES), validation=rows(2, FEATURES), extra=rows(1, FEATURES)).save_to_disk(
        tmp_path / "several"
    )
    one, several = open_source(str(tmp_path / "one")), open_source(str(tmp_path / "several"))
    assert [one.splits["train"].image(i) for i in range(5)] == [image(i) for i in range(5)]
    assert one.classes == several.classes == ("cat", "dog")
    assert several.splits["test"].labels.tolist() == [0, 1] and len(several.splits["train"]) == 5
    assert several.ignored == ("the split extra is not used",)


def test_a_saved_dataset_without_labels(tmp_path):
    rows(3, FEATURES).remove_columns("kind").save_to_disk(tmp_path / "one")
    source = open_source(str(tmp_path / "one"))
    assert source.classes == () and source.splits["train"].labels.tolist() == [-1] * 3


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (
            {"label": [1]},
            r"a\.parquet must have one column with the bytes of images, or one named image, got the columns: label",
        ),
        ({"x": [b""], "y": [b""]}, r"a\.parquet must have one column .*, got several: x, y"),
    ],
)
def test_a_table_without_images_is_refused(frame, error, tmp_path):
    pd.DataFrame(frame).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=error):
        open_source(str(tmp_path / "a.parquet"))


def test_a_damaged_table_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read as Parquet"):
        open_source(str(put(tmp_path / "a.parquet", b"PAR1")))
    rows(3, FEATURES).save_to_disk(tmp_path / "one")
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"\.arrow cannot be read as Arrow"):
        open_source(str(tmp_path / "one"))
    (tmp_path / "one" / "state.json").write_text("[")
    with pytest.raises(ValueError, match=r"state\.json cannot be read as JSON"):
        open_source(str(tmp_path / "one"))


def test_a_row_without_an_image_is_named(tmp_path):
    pd.DataFrame({"image": [image(), None]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"row 1 of .*a\.parquet, train cannot be read as an image: it is empty"):
        open_source(str(tmp_path / "a.parquet")).splits["train"].image(1)


# --- every form of a source, with every kind of image


def as_tar(folder: Path, files: dict[str, bytes]) -> Path:
    return tar_of(folder / "a.tar", files)


def as_parquet(folder: Path, files: dict[str, bytes]) -> Path:
    pd.DataFrame({"image": list(files.values())}).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def as_saved(folder: Path, files: dict[str, bytes]) -> Path:
    content = [{"bytes": one, "path": None} for one in files.values()]
    hub.Dataset.from_dict({"image": content}, features=hub.Features(image=hub.Image())).save_to_disk(folder / "saved")
    return folder / "saved"


def as_list(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        put(folder / "below" / name, content)
    return put(folder / "list.txt", "".join(f"below/{name}\n" for name in files).encode())


@pytest.mark.parametrize("form", [as_tar, as_parquet, as_saved, as_list])
def test_every_kind_of_image_becomes_the_same_in_every_form_of_a_source(form: Callable[..., Path], tmp_path):
    """`loaders/IMAGES.md` says what it becomes: its bytes, pixels, or an error."""
    files = {
        f"{number:04d}{os.path.splitext(name)[1]}": content
        for number, (name, content) in enumerate(KINDS.values())
        if content
    }
    source = open_source(str(form(tmp_path, files)))
    samples = source.splits["train"]
    assert len(samples) == len(files)
    for index, content in enumerate(files.values()):
        results = []
        for read in (lambda content=content: as_stored(content, "it"), lambda index=index: samples.image(index)):
            try:
                results.append(read())
            except ValueError as error:
                results.append(str(error).split(" ", 1)[1] if "row" not in str(error)[:4] else str(error))
        wanted, got = results
        if isinstance(wanted, np.ndarray):
            assert np.array_equal(wanted, got)
        elif isinstance(wanted, bytes):
            assert got == wanted
        else:
            assert isinstance(got, str) and got.endswith(wanted.split(": ", 1)[-1])


# --- changes


def test_the_fingerprint_changes_with_names_labels_and_content_only(tmp_path):
    for name in ("cat/1.jpg", "dog/2.jpg"):
        put(tmp_path / "a" / name, image())
    first = open_source(str(tmp_path / "a")).fingerprint()
    assert open_source(str(tmp_path / "a")).fingerprint() == first
    (tmp_path / "a").rename(tmp_path / "moved")
    assert open_source(str(tmp_path / "moved")).fingerprint() == first, "wherever it is"
    put(tmp_path / "moved" / "cat" / "1.jpg", image(1, "PNG"))
    second = open_source(str(tmp_path / "moved")).fingerprint()
    (tmp_path / "moved" / "dog").rename(tmp_path / "moved" / "wolf")
    assert len({first, second, open_source(str(tmp_path / "moved")).fingerprint()}) == 3


@pytest.mark.parametrize("path", ["nothing", "nothing/{0..3}.tar", "*.parquet", "{"])
def test_a_path_with_nothing_there_is_named(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder at"):
        open_source(str(tmp_path / path))


def test_a_file_of_another_kind_is_refused_with_what_can_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"a\.zip must be a folder of images, a list of image files"):
        open_source(str(put(tmp_path / "a.zip", b"PK")))
    with pytest.raises(ValueError, match=r"photo\.jpg must be a folder of images"):
        open_source(str(put(tmp_path / "photo.jpg", image())))


# --- what a review found


def splits_of(source: Source) -> dict[str, list[str]]:
    """Return split -> class names of its samples, "" without a label."""
    return {
        split: [source.classes[label] if label >= 0 else "" for label in samples.labels]
        for split, samples in source.splits.items()
    }


@pytest.mark.parametrize("form", ["parquet", "tar", "saved"])
def test_of_several_splits_for_testing_the_first_with_labels_is_used(form, tmp_path):
    labels = {"train": ["cat", "dog"], "test": [None, None], "validation": ["dog"]}
    for split, some in labels.items():
        if form == "parquet":
            frame = pd.DataFrame({"image": [image()] * len(some), "label": pd.array(some, dtype="string")})
            frame.to_parquet(tmp_path / f"{split}-0.parquet")
        elif form == "tar":
            files = {f"{i}.jpg": image(i) for i in range(len(some))}
            tar_of(tmp_path / f"{split}-0.tar", files | {f"{i}.cls": one.encode() for i, one in enumerate(some) if one})
    if form == "saved":
        number = {"cat": 0, "dog": 1, None: -1}
        parts = {
            split: hub.Dataset.from_dict(
                {"picture": [{"bytes": image(), "path": None}] * len(some), "kind": [number[one] for one in some]},
                features=FEATURES,
            )
            for split, some in labels.items()
        }
        hub.DatasetDict(parts).save_to_disk(tmp_path)
    source = open_source(str(tmp_path))
    assert splits_of(source) == {"train": ["cat", "dog"], "test": ["dog"]}
    assert "the split test is not used: it has no labels" in source.ignored


def test_shards_in_folders_of_splits_are_of_these_splits(tmp_path):
    tar_of(tmp_path / "train" / "000.tar", {"a.jpg": image(), "b.jpg": image()})
    tar_of(tmp_path / "val" / "000.tar", {"a.jpg": image()})
    assert {split: len(one) for split, one in open_source(str(tmp_path)).splits.items()} == {"train": 2, "test": 1}


def test_a_stray_table_or_shard_among_images_is_ignored_and_said(tmp_path):
    for name in ("cat/1.jpg", "dog/2.jpg"):
        put(tmp_path / name, image())
    tar_of(tmp_path / "old.tar", {"a.jpg": image()})
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "cat" / "metadata.parquet")
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog") and len(source.splits["train"]) == 2
    assert f"ignored: 2 files without the suffix of an image, such as {tmp_path}/cat/metadata.parquet" in source.ignored


def test_classes_in_another_order_are_refused(tmp_path):
    rows(2, FEATURES).to_parquet(tmp_path / "train-0.parquet")
    other = hub.Features(picture=hub.Image(), kind=hub.ClassLabel(names=["dog", "cat"]))
    rows(2, other).to_parquet(tmp_path / "test-0.parquet")
    with pytest.raises(ValueError, match=r"and the same classes, as"):
        open_source(str(tmp_path))


def test_of_two_training_folders_the_other_is_never_tested_on(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "training/cat/3.jpg", "training/dog/4.jpg", "test/cat/5.jpg"):
        put(tmp_path / name, image())
    source = open_source(str(tmp_path))
    assert by_name(source) == {"1.jpg": "cat", "2.jpg": "dog"} and by_name(source, "test") == {"5.jpg": "cat"}
    assert "the split training is not used" in source.ignored


@pytest.mark.parametrize("kind", [b"0", b"g", b"x", b"L"])
@pytest.mark.timeout(60)
def test_a_size_that_is_no_octal_number_ends_at_once(kind, tmp_path):
    path = tar_of(tmp_path / "a.tar", {"1.jpg": image(), "2.jpg": image()})
    content = bytearray(path.read_bytes())
    content[124:136], content[156:157] = b"-0000001000\0", kind
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a\.tar is not a tar file, or is damaged: a number in a header must have octal"
    ):
        open_source(str(path))


@pytest.mark.parametrize(
    ("label", "error"),
    [
        (30_000_000, "the largest label must be at most 1,000,000, got 30,000,000"),
        (-2, "labels must be 0 or more, or -1 for none, got -2"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "parquet", "tar"])
def test_labels_that_number_no_classes_are_refused_in_every_form(form, label, error, tmp_path):
    path = tmp_path / f"a.{form}"
    if form == "csv":
        put(tmp_path / "1.jpg", image())
        path.write_text(f"1.jpg,{label}\n")
    elif form == "parquet":
        pd.DataFrame({"image": [image()], "label": [label]}).to_parquet(path)
    else:
        tar_of(path, {"1.jpg": image(), "1.cls": str(label).encode()})
    with pytest.raises(ValueError, match=error):
        open_source(str(path))


def test_minus_one_is_no_label_in_every_form(tmp_path):
    for name in ("1.jpg", "2.jpg"):
        put(tmp_path / name, image())
    listed = put(tmp_path / "a.csv", b"1.jpg,-1\n2.jpg,10\n")
    shard = tar_of(tmp_path / "a.tar", {"1.jpg": image(), "1.cls": b"-1", "2.jpg": image(), "2.cls": b"10"})
    pd.DataFrame({"image": [image()] * 2, "label": [-1, 10]}).to_parquet(tmp_path / "a.parquet")
    for path in (listed, shard, tmp_path / "a.parquet"):
        source = open_source(str(path))
        assert source.splits["train"].labels.tolist() == [-1, 10] and len(source.classes) == 11


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("state.json", "{}", "must have a list of data files, got None"),
        (
            "state.json",
            '{"_data_files": [{"filename": "../x.arrow"}]}',
            r"must name files in this folder, got '../x.arrow'",
        ),
        ("dataset_dict.json", '{"splits": 3}', "must have a list of splits, got 3"),
        ("dataset_dict.json", '{"splits": ["../train"]}', "must have a split named train, got ../train"),
    ],
)
def test_a_saved_dataset_with_odd_descriptions_is_refused(name, content, error, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=error):
        open_source(str(tmp_path))


def test_integers_of_several_widths_are_labels(tmp_path):
    for number, kind in enumerate((np.int32, np.int64)):
        frame = pd.DataFrame({"image": [image()], "label": np.array([number], kind)})
        frame.to_parquet(tmp_path / f"{number}.parquet")
    assert open_source(str(tmp_path)).splits["train"].labels.tolist() == [0, 1]


def test_a_line_that_csv_cannot_read_is_refused(tmp_path):
    listed = put(tmp_path / "list.csv", b'"' + b"x" * 200_000 + b'",1\n')
    with pytest.raises(ValueError, match=r"list\.csv must be a list in CSV: field larger than field limit"):
        open_source(str(listed))
