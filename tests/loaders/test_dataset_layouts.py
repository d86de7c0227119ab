"""Every dataset on a miniature of its real layout, intact and damaged."""

import io
import json
import os
import pickle
import sys
import tarfile
from hashlib import md5

import datasets as hub
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from twoview.loaders.datasets import DATASETS, dataset, imagenets, small, transfer_tasks
from twoview.loaders.datasets.transfer_tasks import clevr_count, clevr_distance, kitti_distance

WNIDS = [f"n{number:08d}" for number in range(1000)]


def jpeg_of(seed=0):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


JPEG = jpeg_of()


def put(file, content=JPEG):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def labels(name, root, split="train"):
    return dataset(name).find(root, split).labels.tolist()


@pytest.mark.parametrize("name", DATASETS)
def test_a_declaration_is_whole(name):
    one = DATASETS[name]
    assert len(one.classes) == one.count == len(set(one.classes)) or name.startswith("imagenet")
    assert {"train", "test"} <= set(one.sizes) and one.license and one.origin and one.statistics
    assert all(0 < value < 1 for value in one.mean + one.std)
    assert one.get or one.by_hand or not one.layout
    with pytest.raises(ValueError, match=f"{name} has no split 'validation'"):
        one.find(None, "validation")


def test_imagenets_names_are_torchvisions():
    assert len(dataset("imagenet").classes) == 1000 and dataset("imagenet").classes[0] == "tench"


def test_urls_and_checksums_are_torchvisions():
    from torchvision.datasets import CIFAR10, CIFAR100, STL10, CLEVRClassification, Imagenette, Kitti, inaturalist

    for ours, theirs in (
        (small._CIFAR10_ARCHIVE, (CIFAR10.url, CIFAR10.tgz_md5)),
        (small._CIFAR100_ARCHIVE, (CIFAR100.url, CIFAR100.tgz_md5)),
        (small._STL10_ARCHIVE, (STL10.url, STL10.tgz_md5)),
        (transfer_tasks._CLEVR, (CLEVRClassification._URL, CLEVRClassification._MD5)),
        (transfer_tasks._INAT_ARCHIVES[2], (inaturalist.DATASET_URLS["2018"], inaturalist.DATASET_MD5["2018"])),
    ):
        assert (ours.url, ours.md5) == theirs
    assert [archive.url for archive in transfer_tasks._KITTI_ARCHIVES] == [
        Kitti.data_url + name for name in Kitti.resources
    ]
    assert {wnid: names[0] for wnid, names in Imagenette._WNID_TO_CLASS.items()} == imagenets._IMAGENETTE
    for name, size in (("imagenette", "full"), ("imagenette-160", "160px")):
        assert dataset(name).get.__closure__[0].cell_contents[0].url == Imagenette._ARCHIVES[size][0]
        assert dataset(name).get.__closure__[0].cell_contents[0].md5 == Imagenette._ARCHIVES[size][1]


# --- ImageNet and datasets made from it


@pytest.fixture
def imagenet(tmp_path):
    for wnid in WNIDS:
        put(tmp_path / "imagenet" / "train" / wnid / f"{wnid}_1.JPEG")
        put(tmp_path / "imagenet" / "val" / wnid / "ILSVRC2012_val_00000001.JPEG")
    return tmp_path


def test_imagenet(imagenet):
    assert labels("imagenet", imagenet) == labels("imagenet", imagenet, "test") == list(range(1000))
    assert dataset("imagenet").find(imagenet, "test").image(7) == JPEG
    (imagenet / "imagenet" / "val" / WNIDS[17] / "ILSVRC2012_val_00000001.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match=f"val/{WNIDS[17]} holds no image"):
        labels("imagenet", imagenet, "test")
    (imagenet / "imagenet" / "val" / WNIDS[17]).rmdir()
    with pytest.raises(FileNotFoundError, match=f"must hold 1,000 class folders, got 999: {WNIDS[17]} is missing"):
        labels("imagenet", imagenet, "test")


def test_imagenet_without_its_archives_is_not_got(tmp_path):
    (tmp_path / "imagenet").mkdir()
    with pytest.raises(FileNotFoundError, match=r"ILSVRC2012_img_train.tar does not exist: put .*registration"):
        dataset("imagenet").get(tmp_path)
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_devkit_t12.tar.gz"):
        put(tmp_path / "imagenet" / name, "cut")
    with pytest.raises(ValueError, match="does not have the checksum that torchvision expects"):
        dataset("imagenet").get(tmp_path)
    assert len(list((tmp_path / "imagenet").iterdir())) == 2, "nothing is left half-extracted"


def test_imagenets_archives_become_class_folders(tmp_path, monkeypatch):
    """torchvision sorts the files, here with a devkit of two classes and archives whose checksums are patched."""
    import scipy.io
    from torchvision.datasets import imagenet as theirs

    folder, wnids = tmp_path / "imagenet", WNIDS[:2]
    synsets = np.array(
        [(1 + n, wnid, f"word {n}", "", 0) for n, wnid in enumerate(wnids)],
        [("id", int), ("wnid", "O"), ("words", "O"), ("gloss", "O"), ("num_children", int)],
    )
    synsets = np.array(
        [(*row, 0, 0, 0) for row in synsets.tolist()], [*synsets.dtype.descr, *[(k, int) for k in "xyz"]]
    )
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    scipy.io.savemat(data / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    put(data / "ILSVRC2012_validation_ground_truth.txt", "2\n1\n")
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(data.parent, data.parent.name)
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as tar:
        for wnid in wnids:
            put(tmp_path / wnid / f"{wnid}_1.JPEG")
            with tarfile.open(tmp_path / f"{wnid}.tar", "w") as inner:
                inner.add(tmp_path / wnid / f"{wnid}_1.JPEG", f"{wnid}_1.JPEG")
            tar.add(tmp_path / f"{wnid}.tar", f"{wnid}.tar")
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for number in (1, 2):
            put(tmp_path / f"ILSVRC2012_val_0000000{number}.JPEG")
            tar.add(tmp_path / f"ILSVRC2012_val_0000000{number}.JPEG", f"ILSVRC2012_val_0000000{number}.JPEG")
    sums = {
        split: (name, md5((folder / name).read_bytes()).hexdigest()) for split, (name, _) in theirs.ARCHIVE_META.items()
    }
    monkeypatch.setattr(theirs, "ARCHIVE_META", sums)
    dataset("imagenet").get(tmp_path)
    assert (folder / "train" / wnids[1] / f"{wnids[1]}_1.JPEG").is_file()
    assert (folder / "val" / wnids[1] / "ILSVRC2012_val_00000001.JPEG").is_file()
    assert sorted(child.name for child in folder.iterdir() if not child.name.startswith("ILSVRC")) == ["train", "val"]


def test_imagenet_100(tmp_path):
    names = imagenets.IMAGENET_100.read_text().split()
    assert len(set(names)) == 100 and names == sorted(names)
    for wnid in (*names, "n99999999"):
        put(tmp_path / "imagenet" / "train" / wnid / f"{wnid}_1.JPEG")
    assert labels("imagenet-100", tmp_path) == list(range(100)), "classes that are not among the hundred are skipped"
    (tmp_path / "imagenet" / "train" / names[3]).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"{names[3]} is missing"):
        labels("imagenet-100", tmp_path)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"train/{WNIDS[4]}/absent.JPEG 4", r"ImageNet_LT_train.txt lists .*absent.JPEG, which does not exist"),
        (f"train/{WNIDS[4]}/{WNIDS[4]}_1.JPEG 1000", "line 3 is not a path and a class below 1000"),
        (f"train/{WNIDS[4]}/{WNIDS[4]}_1.JPEG", "line 3 is not a path and a class below 1000"),
    ],
)
def test_imagenet_lt(tmp_path, line, complaint):
    for wnid in WNIDS[:5]:
        put(tmp_path / "imagenet" / "train" / wnid / f"{wnid}_1.JPEG")
    lines = [f"train/{WNIDS[n]}/{WNIDS[n]}_1.JPEG {n}" for n in (2, 0)]
    listed = tmp_path / "imagenet-lt" / "ImageNet_LT_train.txt"
    put(listed, "\n".join(lines) + "\n")
    assert labels("imagenet-lt", tmp_path) == [2, 0]
    put(listed, "\n".join([*lines, line]))
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        labels("imagenet-lt", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ImageNet_LT_test.txt does not exist: `twoview data imagenet-lt`"):
        labels("imagenet-lt", tmp_path, "test")


def test_tiny_imagenet(tmp_path):
    folder = tmp_path / "tiny-imagenet-200"
    for wnid in WNIDS[:200]:
        put(folder / "train" / wnid / "images" / f"{wnid}_0.JPEG")
        put(folder / "train" / wnid / f"{wnid}_boxes.txt", "not an image")
    for number in range(3):
        put(folder / "val" / "images" / f"val_{number}.JPEG", jpeg_of(number))
    rows = [f"val_{number}.JPEG\t{WNIDS[wnid]}\t0\t32\t44\t62" for number, wnid in enumerate((9, 0, 199))]
    annotations = folder / "val" / "val_annotations.txt"
    put(annotations, "\n".join(rows) + "\n")
    assert labels("tiny-imagenet", tmp_path) == list(range(200))
    test = dataset("tiny-imagenet").find(tmp_path, "test")
    assert test.labels.tolist() == [9, 0, 199] and test.image(2) == jpeg_of(2)
    put(annotations, "\n".join([*rows, f"val_7.JPEG\t{WNIDS[0]}\t0\t0\t1\t1"]))
    with pytest.raises(FileNotFoundError, match=r"val_annotations.txt lists .*val_7.JPEG, which does not exist"):
        labels("tiny-imagenet", tmp_path, "test")
    put(annotations, "\n".join([*rows, "val_0.JPEG\tn99999999\t0\t0\t1\t1"]))
    with pytest.raises(ValueError, match="line 4 names no class that has a folder"):
        labels("tiny-imagenet", tmp_path, "test")
    (folder / "train" / WNIDS[5]).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="must hold 200 class folders, got 199"):
        labels("tiny-imagenet", tmp_path)


@pytest.fixture
def imagenette(tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        for wnid in imagenets._IMAGENETTE:
            for number in range(count):
                put(tmp_path / "imagenette2" / split / wnid / f"{wnid}_{number}.JPEG")
    return tmp_path


def test_imagenette(imagenette):
    assert labels("imagenette", imagenette) == sorted([*range(10)] * 2)
    (imagenette / "imagenette2" / "val" / "n03417042").rename(imagenette / "elsewhere")
    with pytest.raises(FileNotFoundError, match="val/n03417042 is missing"):
        labels("imagenette", imagenette, "test")


# --- datasets that fit in memory


def test_cifar100(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "cifar-100-python"
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    for name, count in (("train", 5), ("test", 2)):
        put(
            folder / name,
            pickle.dumps({"data": images[:count].reshape(count, -1), "fine_labels": [99, 0, 5, 5, 1][:count]}),
        )
        listed = [[name, md5((folder / name).read_bytes()).hexdigest()]]
        monkeypatch.setattr(CIFAR100, f"{name}_list", listed)
    put(folder / "meta", pickle.dumps({"fine_label_names": list(dataset("cifar100").classes)}))
    meta = {**CIFAR100.meta, "md5": md5((folder / "meta").read_bytes()).hexdigest()}
    monkeypatch.setattr(CIFAR100, "meta", meta)
    train = dataset("cifar100").find(tmp_path, "train")
    assert train.labels.tolist() == [99, 0, 5, 5, 1] and np.array_equal(train.image(3), images[3].transpose(1, 2, 0))
    put(folder / "train", "damaged")
    with pytest.raises(FileNotFoundError, match="cifar-100-python lacks a file, or a file's checksum"):
        dataset("cifar100").find(tmp_path, "train")


def test_stl10(tmp_path, monkeypatch):
    from torchvision.datasets import STL10

    folder = tmp_path / "stl10_binary"
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)  # stored column by column
    sums = {}
    for name, content in (
        ("train_X.bin", images.tobytes()),
        ("train_y.bin", bytes([10, 1, 2, 2])),
        ("test_X.bin", images[:2].tobytes()),
        ("test_y.bin", bytes([3, 4])),
        ("unlabeled_X.bin", images[:3].tobytes()),
    ):
        put(folder / name, content)
        sums[name] = md5(content).hexdigest()
    for each in ("train_list", "test_list"):
        monkeypatch.setattr(STL10, each, [[name, sums[name]] for name, _ in getattr(STL10, each)])
    train = dataset("stl10").find(tmp_path, "train")
    assert train.labels.tolist() == [9, 0, 1, 1] and np.array_equal(train.image(1), images[1].transpose(2, 1, 0))
    assert labels("stl10", tmp_path, "test") == [2, 3] and labels("stl10", tmp_path, "unlabeled") == [-1] * 3
    put(folder / "test_y.bin", bytes([3]))
    with pytest.raises(FileNotFoundError, match="stl10_binary lacks a file, or a file's checksum"):
        labels("stl10", tmp_path)


def test_fashion_mnist_in_the_data_root_without_labels_is_named(tmp_path):
    put(tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte", bytes(16 + 28 * 28))
    with pytest.raises(ValueError, match="labels of train-images-idx3-ubyte are missing"):
        dataset("fashion-mnist").find(tmp_path, "train")


# --- transfer


def test_inat18(tmp_path):
    images = [{"id": 10 + n, "file_name": f"train_val2018/Aves/{n}/{n}.jpg"} for n in range(3)]
    for image in images:
        put(tmp_path / "inat18" / image["file_name"])
    annotations = [{"image_id": 10 + n, "category_id": category} for n, category in ((2, 8141), (0, 5))]
    listed = tmp_path / "inat18" / "train2018.json"
    put(listed, json.dumps({"images": images, "annotations": annotations}))
    samples = dataset("inat18").find(tmp_path, "train")
    assert samples.labels.tolist() == [8141, 5] and samples.image(0) == JPEG and dataset("inat18").count == 8142
    for content, complaint in (
        (
            json.dumps({"images": images, "annotations": [{"image_id": 10, "category_id": 8142}]}),
            r"not in \[0, 8141\]",
        ),
        (json.dumps({"images": images, "annotations": [{"image_id": 9, "category_id": 1}]}), "not a file of iNat"),
        (json.dumps({"images": images}), "has no lists of images and annotations"),
        ("{", "is not JSON"),
    ):
        put(listed, content)
        with pytest.raises(ValueError, match=f"train2018.json.*{complaint}"):
            labels("inat18", tmp_path)
    put(listed, json.dumps({"images": images, "annotations": annotations}))
    (tmp_path / "inat18" / images[2]["file_name"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"train2018.json lists .*2.jpg, which does not exist"):
        labels("inat18", tmp_path)


def test_places205(tmp_path):
    base = tmp_path / "places205"
    for name in ("a/abbey/one.jpg", "w/yard/two, or three.jpg"):
        put(base / "data/vision/torralba/deeplearning/images256" / name)
    lists = base / "trainvalsplit_places205"
    put(lists / "train_places205.csv", "w/yard/two, or three.jpg,204\na/abbey/one.jpg,0\n")
    assert labels("places205", tmp_path) == [204, 0]
    put(lists / "train_places205.csv", "a/abbey/one.jpg,205\n")
    with pytest.raises(ValueError, match=r"train_places205.csv: line 1 is not a path and a class below 205"):
        labels("places205", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"val_places205.csv"):
        labels("places205", tmp_path, "test")


def clevr_objects(*depths):
    return [{"shape": "cube", "pixel_coords": [10, 20, depth]} for depth in depths]


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=10))
def test_clevrs_classes_are_vtabs(depths):
    thresholds = np.array([0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0])  # VTAB's clevr.py
    assert clevr_distance(clevr_objects(*depths)) == np.max(np.where(thresholds - min(depths) < 0))
    assert clevr_count(clevr_objects(*depths)) == len(depths) - 3


def test_clevr(tmp_path):
    base = tmp_path / "clevr" / "CLEVR_v1.0"
    scenes = []
    for number, depths in enumerate(((8.0, 9.1, 12.0), (9.2, 11.0, 12.0, 13.0), tuple(range(11, 21)))):
        scenes.append({"image_filename": f"CLEVR_val_{number:06d}.png", "objects": clevr_objects(*depths)})
        put(base / "images" / "val" / scenes[-1]["image_filename"])
    listed = base / "scenes" / "CLEVR_val_scenes.json"
    put(listed, json.dumps({"scenes": scenes}))
    assert labels("clevr-count", tmp_path, "test") == [0, 1, 7]
    assert labels("clevr-distance", tmp_path, "test") == [0, 3, 5]
    with pytest.raises(FileNotFoundError, match=r"CLEVR_train_scenes.json does not exist: `twoview data clevr-count`"):
        labels("clevr-count", tmp_path)
    put(listed, json.dumps({"scenes": [{**scenes[0], "objects": clevr_objects(9.0)}]}))
    with pytest.raises(ValueError, match="a CLEVR scene must have 3 to 10 objects, got 1"):
        labels("clevr-count", tmp_path, "test")
    put(listed, json.dumps({"scenes": [{"objects": []}]}))
    with pytest.raises(ValueError, match=r"CLEVR_val_scenes.json is not a file of CLEVR's scenes"):
        labels("clevr-count", tmp_path, "test")
    put(listed, json.dumps({"scenes": scenes}))
    (base / "images" / "val" / "CLEVR_val_000001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lists .*CLEVR_val_000001.png, which does not exist"):
        labels("clevr-count", tmp_path, "test")


def kitti_line(kind, z):
    return f"{kind} 0.00 0 1.57 387.6 181.5 423.8 203.1 1.67 1.87 3.69 -16.53 2.39 {z} 1.57"


@given(
    st.lists(st.tuples(st.sampled_from(["Car", "Van", "Truck", "Tram", "DontCare"]), st.floats(-2, 120)), max_size=5)
)
def test_kittis_classes_are_vtabs(objects):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "000000.txt"
        put(file, "\n".join(kitti_line(kind, repr(z)) for kind, z in objects))
        distance = min([z for kind, z in objects if kind in ("Car", "Van", "Truck")] + [1000.0])
        thresholds = np.array([-100.0, 8.0, 20.0, 999.0])  # VTAB's kitti.py
        assert kitti_distance(file) == np.max(np.where(thresholds - distance < 0))


def test_kitti(tmp_path):
    base = tmp_path / "Kitti" / "raw" / "training"
    for number in range(10):
        put(base / "image_2" / f"{number:06d}.png", jpeg_of(number))
        put(base / "label_2" / f"{number:06d}.txt", kitti_line("Car", 1 + 3 * number) + "\n")
    train, test = (dataset("kitti-distance").find(tmp_path, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 2)
    assert len({part.image(index) for part in (train, test) for index in range(len(part))}) == 10
    assert sorted([*train.labels, *test.labels]) == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    put(base / "label_2" / "000003.txt", "Car 0.00")
    with pytest.raises(ValueError, match=r"000003.txt: line 1 is not a KITTI label"):
        [dataset("kitti-distance").find(tmp_path, split) for split in ("train", "test")]
    (base / "image_2" / "000004.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lists .*000004.png, which does not exist"):
        labels("kitti-distance", tmp_path)


# --- other libraries' datasets


def test_a_dataset_of_torchvision_by_name(imagenette):
    """A dataset with the argument `split`, whose test split is named val, and whose labels are in no attribute."""
    ours, theirs = dataset("imagenette"), dataset("torchvision:Imagenette")
    for split in ("train", "test"):
        assert np.array_equal(ours.find(imagenette, split).labels, theirs.find(imagenette, split).labels)
    assert theirs.find(imagenette, "test").image(0) == JPEG, "a JPEG keeps its bytes"


def test_a_dataset_of_torchvision_that_has_train_for_its_split(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    for prefix, count in (("train", 3), ("t10k", 2)):
        pixels = bytes(range(count)) * (28 * 28)
        header = b"".join(size.to_bytes(4, "big") for size in (count, 28, 28))
        put(raw / f"{prefix}-images-idx3-ubyte", bytes([0, 0, 8, 3]) + header + pixels)
        put(
            raw / f"{prefix}-labels-idx1-ubyte",
            bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + bytes([7, 0, 9][:count]),
        )
    train = dataset("torchvision:MNIST").find(tmp_path, "train")
    assert train.labels.tolist() == [7, 0, 9] and labels("torchvision:MNIST", tmp_path, "test") == [7, 0]
    assert train.image(0).shape == (28, 28, 3) and train.image(0)[0, 1].tolist() == [1, 1, 1]


def test_the_number_of_classes_of_another_librarys_dataset_comes_from_its_data(imagenette, monkeypatch):
    monkeypatch.setenv("TWOVIEW_DATA", str(imagenette))
    assert len(dataset("torchvision:Imagenette").classes) == 10


def test_what_torchvision_has_not_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"unknown torchvision dataset 'CIFAR11': did you mean CIFAR1"):
        dataset("torchvision:CIFAR11")
    with pytest.raises(ValueError, match="EuroSAT must take an argument train or split"):
        dataset("torchvision:EuroSAT").find(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="torchvision:SVHN is not in"):
        dataset("torchvision:SVHN").find(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="torchvision:SVHN needs a data root"):
        dataset("torchvision:SVHN").find(None, "train")


def test_a_hugging_face_dataset_by_name(monkeypatch):
    """The hub itself is replaced: these are datasets of the package, which need no network."""
    gray = Image.fromarray(np.full((4, 5), 7, np.uint8))
    features = hub.Features(picture=hub.Image(), kind=hub.ClassLabel(names=["cat", "dog"]), caption=hub.Value("string"))

    def rows(images: list[object]) -> hub.Dataset:
        return hub.Dataset.from_dict(
            {"picture": images, "kind": [1] * len(images), "caption": ["a"] * len(images)}, features=features
        )

    splits = {"train": rows([{"bytes": JPEG, "path": None}, gray]), "validation": rows([gray])}
    monkeypatch.setattr(hub, "get_dataset_split_names", lambda name: list(splits))
    monkeypatch.setattr(hub, "load_dataset", lambda name, split: splits[split])
    one = dataset("hf:someone/pets")
    assert one.classes == ("cat", "dog") and one.find(None, "train").labels.tolist() == [1, 1]
    assert one.find(None, "train").image(0) == JPEG, "a JPEG keeps its bytes"
    assert one.find(None, "test").image(0).tolist() == np.full((4, 5, 3), 7).tolist()
    splits["train"] = splits["train"].add_column("other", [0, 0], feature=hub.ClassLabel(names=["old", "new"]))
    with pytest.raises(ValueError, match="hf:someone/pets has 2 columns of kind ClassLabel, not one"):
        one.find(None, "train")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="pip install datasets"):
        one.find(None, "train")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("inat18", "inat18/train2018.json"),
        ("clevr-count", "clevr/CLEVR_v1.0/scenes/CLEVR_train_scenes.json"),
        ("places205", "places205/trainvalsplit_places205/train_places205.csv"),
        ("imagenet-lt", "imagenet-lt/ImageNet_LT_train.txt"),
        ("tiny-imagenet", "tiny-imagenet-200/val/val_annotations.txt"),
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
    ],
)
def test_a_pipe_in_the_place_of_a_list_is_named(name, path, tmp_path):
    for folder in dataset(name).layout:
        if not (tmp_path / folder).suffix:
            (tmp_path / folder).mkdir(parents=True)
    for number in range(200 if name == "tiny-imagenet" else 0):
        (tmp_path / "tiny-imagenet-200" / "train" / str(number)).mkdir()
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / path)
    with pytest.raises(ValueError, match=f"{path} must be a file, got a pipe or a device"):
        dataset(name).read(tmp_path, "test" if name == "tiny-imagenet" else "train")
