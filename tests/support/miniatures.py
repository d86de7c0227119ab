"""Datasets in their real layouts, with a handful of images in each split, for the tests of the probes."""

import io
import json
import pickle
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twoview.loaders.datasets import dataset, imagenets

SPLITS = {"train": 6, "test": 3}  # images of each class that has any


def put(file: Path, content: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def encoded(label: int, number: int, kind: str = "JPEG") -> bytes:
    """An image file whose color depends on its label, with noise."""
    random = np.random.default_rng((label, number))
    color = np.array([40 * (label % 6), 255 - 30 * (label % 8), 128])
    pixels = np.clip(color + random.normal(0, 20, (12, 18, 3)), 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def imagenet(root: Path, monkeypatch: Any) -> None:
    for split, folder in (("train", "train"), ("test", "val")):
        for label in range(1000):
            for number in range(2 if split == "train" else 1):
                put(root / "imagenet" / folder / f"n{label:08d}" / f"{split}_{number}.JPEG", encoded(label, number))


def imagenet_100(root: Path, monkeypatch: Any) -> None:
    for label, wnid in enumerate(imagenets.IMAGENET_100.read_text().split()):
        for folder in ("train", "val"):
            put(root / "imagenet" / folder / wnid / f"{folder}.JPEG", encoded(label, 0))


def imagenet_lt(root: Path, monkeypatch: Any) -> None:
    for split in SPLITS:
        lines = []
        for label in range(3):
            for number in range(SPLITS[split]):
                name = f"{'train' if split == 'train' else 'val'}/n{label:08d}/{split}_{number}.JPEG"
                put(root / "imagenet" / name, encoded(label, number))
                lines.append(f"{name} {label}")
        put(root / "imagenet-lt" / f"ImageNet_LT_{split}.txt", "\n".join(lines) + "\n")


def tiny_imagenet(root: Path, monkeypatch: Any) -> None:
    folder = root / "tiny-imagenet-200"
    rows = []
    for label in range(200):
        wnid = f"n{label:08d}"
        put(folder / "train" / wnid / "images" / f"{wnid}_0.JPEG", encoded(label, 0))
        put(folder / "val" / "images" / f"val_{label}.JPEG", encoded(label, 1))
        rows.append(f"val_{label}.JPEG\t{wnid}\t0\t0\t1\t1")
    put(folder / "val" / "val_annotations.txt", "\n".join(rows) + "\n")


def imagenette(root: Path, monkeypatch: Any) -> None:
    for split, folder in (("train", "train"), ("test", "val")):
        for label, wnid in enumerate(imagenets._IMAGENETTE):
            for number in range(SPLITS[split]):
                put(root / "imagenette2" / folder / wnid / f"{number}.JPEG", encoded(label, number))


def cifar100(root: Path, monkeypatch: Any) -> None:
    from torchvision.datasets import CIFAR100

    folder, random = root / "cifar-100-python", np.random.default_rng(0)
    for split in SPLITS:
        labels = [label for label in range(4) for _ in range(SPLITS[split])]
        images = random.integers(0, 60, (len(labels), 3 * 32 * 32)) + 45 * np.array(labels)[:, None]
        put(folder / split, pickle.dumps({"data": images.astype(np.uint8), "fine_labels": labels}))
        monkeypatch.setattr(CIFAR100, f"{split}_list", [[split, md5((folder / split).read_bytes()).hexdigest()]])
    put(folder / "meta", pickle.dumps({"fine_label_names": list(dataset("cifar100").classes)}))
    sum_of_meta = md5((folder / "meta").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sum_of_meta})


def stl10(root: Path, monkeypatch: Any) -> None:
    from torchvision.datasets import STL10

    random, sums = np.random.default_rng(0), {}
    for split in SPLITS:
        labels = [label for label in range(3) for _ in range(SPLITS[split])]
        images = random.integers(0, 256, (len(labels), 3, 96, 96), dtype=np.uint8)
        for name, content in ((f"{split}_X.bin", images.tobytes()), (f"{split}_y.bin", bytes(n + 1 for n in labels))):
            put(root / "stl10_binary" / name, content)
            sums[name] = md5(content).hexdigest()
    put(root / "stl10_binary" / "unlabeled_X.bin", b"")
    sums["unlabeled_X.bin"] = md5(b"").hexdigest()
    for each in ("train_list", "test_list"):
        monkeypatch.setattr(STL10, each, [[name, sums[name]] for name, _ in getattr(STL10, each)])


def inat18(root: Path, monkeypatch: Any) -> None:
    for split in SPLITS:
        images, annotations = [], []
        for label in (0, 5, 8141):
            for number in range(SPLITS[split]):
                name = f"train_val2018/Aves/{label}/{split}_{number}.jpg"
                put(root / "inat18" / name, encoded(label, number))
                annotations.append({"image_id": len(images), "category_id": label})
                images.append({"id": len(images), "file_name": name})
        listed = f"{'train' if split == 'train' else 'val'}2018.json"
        put(root / "inat18" / listed, json.dumps({"images": images, "annotations": annotations}))


def places205(root: Path, monkeypatch: Any) -> None:
    base = root / "places205"
    for split in SPLITS:
        lines = []
        for label in (0, 100, 204):
            for number in range(SPLITS[split]):
                lines.append(f"a/place{label}/{split}_{number}.jpg,{label}")
                name = lines[-1].rpartition(",")[0]
                put(base / "data/vision/torralba/deeplearning/images256" / name, encoded(label, number))
        listed = f"{'train' if split == 'train' else 'val'}_places205.csv"
        put(base / "trainvalsplit_places205" / listed, "\n".join(lines) + "\n")


def clevr(root: Path, monkeypatch: Any) -> None:
    base = root / "clevr" / "CLEVR_v1.0"
    for part in ("train", "val"):
        scenes = []
        for number in range(6 if part == "train" else 4):
            name = f"CLEVR_{part}_{number:06d}.png"
            depths = [8.2 + 0.6 * (number % 2), *[12.0] * (2 + number % 2)]
            objects = [{"shape": "cube", "pixel_coords": [10, 20, depth]} for depth in depths]
            scenes.append({"image_filename": name, "objects": objects})
            put(base / "images" / part / name, encoded(number % 2, number, "PNG"))
        put(base / "scenes" / f"CLEVR_{part}_scenes.json", json.dumps({"scenes": scenes}))


def kitti(root: Path, monkeypatch: Any) -> None:
    base = root / "Kitti" / "raw" / "training"
    for number in range(15):
        line = f"Car 0.00 0 1.57 387.6 181.5 423.8 203.1 1.67 1.87 3.69 -16.53 2.39 {5 + 10 * (number % 3)} 1.57"
        put(base / "image_2" / f"{number:06d}.png", encoded(number % 3, number, "PNG"))
        put(base / "label_2" / f"{number:06d}.txt", line + "\n")


# The name of a dataset -> the function that makes it.
MINIATURES = {
    "imagenet": imagenet,
    "imagenet-100": imagenet_100,
    "imagenet-lt": imagenet_lt,
    "tiny-imagenet": tiny_imagenet,
    "imagenette": imagenette,
    "cifar100": cifar100,
    "stl10": stl10,
    "inat18": inat18,
    "places205": places205,
    "clevr-count": clevr,
    "clevr-distance": clevr,
    "kitti-distance": kitti,
}
