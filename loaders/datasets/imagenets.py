"""ImageNet and datasets made from it: ImageNet-100, ImageNet-LT (long-tailed), Tiny ImageNet and Imagenette."""

import os
from collections.abc import Sequence
from pathlib import Path

from twoview.loaders.datasets.archives import Archive, scratch_folder
from twoview.loaders.datasets.declaration import NEEDS_A_ROOT, Dataset, Split, getter, in_root
from twoview.loaders.datasets.samples import (
    Samples,
    check_there,
    folder_names,
    inside,
    samples_from_class_folders,
    samples_from_files,
    samples_from_list,
)
from twoview.loaders.files import lines_of

_LICENSE = "for non-commercial research and education; see https://image-net.org/download"
_FOLDERS = {"train": "imagenet/train", "test": "imagenet/val"}
_BY_HAND = (
    "put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from "
    "https://image-net.org/download (registration) into ROOT/imagenet"
)
# The classes of "Contrastive Multiview Coding" (Tian et al., ECCV 2020), which most later papers mean by ImageNet-100:
# imagenet100.txt of github.com/HobbitLong/CMC, sorted, so that labels are in the order of the folder names.
IMAGENET_100 = Path(__file__).with_name("imagenet-100.txt")


def _imagenet(root: Path | None, split: Split) -> Samples:
    folder = in_root(root, _FOLDERS[split], "imagenet")
    return samples_from_class_folders(folder, _all_classes(folder, 1000))


def _all_classes(folder: Path, count: int) -> Sequence[str]:
    """Return the names of the class folders in `folder`. Raises FileNotFoundError if there are not `count` of them.

    The error names a missing class if the folder of another split has it.
    """
    names = folder_names(folder)
    if len(names) == count:
        return names
    elsewhere = [name for other in folder.parent.iterdir() if other.is_dir() for name in folder_names(other)]
    lacking = sorted(set(elsewhere) - set(names))[:1]
    raise FileNotFoundError(
        f"{folder} must hold {count:,} class folders, got {len(names):,}"
        + "".join(f": {n} is missing" for n in lacking)
    )


def _imagenet_names() -> Sequence[str]:
    from torchvision.models import ResNet50_Weights

    return list(ResNet50_Weights.DEFAULT.meta["categories"])


def _get_imagenet(root: Path | None) -> None:
    """Unpack the archives that the user has downloaded: torchvision checks them and sorts them into class folders."""
    from torchvision.datasets import ImageNet

    if root is None:
        raise FileNotFoundError(f"imagenet {NEEDS_A_ROOT}")
    folder = root / "imagenet"
    for split in ("train", "val"):
        if (folder / split).is_dir():
            continue
        with scratch_folder(folder, split) as scratch:
            for name in (f"ILSVRC2012_img_{split}.tar", "ILSVRC2012_devkit_t12.tar.gz"):
                if not (folder / name).is_file():
                    raise FileNotFoundError(f"{folder / name} does not exist: {_BY_HAND.replace('ROOT', str(root))}")
                (scratch / name).symlink_to((folder / name).resolve())
            try:
                ImageNet(scratch, split)
            except RuntimeError:
                raise ValueError(
                    f"an archive in {folder} does not have the checksum that torchvision expects"
                ) from None
            os.replace(scratch / split, folder / split)


def _imagenet_100(root: Path | None, split: Split) -> Samples:
    return samples_from_class_folders(in_root(root, _FOLDERS[split], "imagenet-100"), IMAGENET_100.read_text().split())


def _imagenet_lt(root: Path | None, split: Split) -> Samples:
    listed = in_root(root, f"imagenet-lt/ImageNet_LT_{split}.txt", "imagenet-lt")
    return samples_from_list(listed, in_root(root, "imagenet", "imagenet-lt"), 1000)


def _tiny_imagenet(root: Path | None, split: Split) -> Samples:
    """Read the class folders for training, and the images that `val_annotations.txt` lists for testing."""
    folder = in_root(root, "tiny-imagenet-200", "tiny-imagenet")
    names = _all_classes(in_root(root, "tiny-imagenet-200/train", "tiny-imagenet"), 200)
    if split == "train":
        return samples_from_class_folders(folder / "train", names)
    annotations = in_root(root, "tiny-imagenet-200/val/val_annotations.txt", "tiny-imagenet")
    labels = {name: label for label, name in enumerate(names)}
    rows = [line.split("\t") for line in lines_of(annotations)]
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or row[1] not in labels:
            raise ValueError(f"{annotations}: line {number} names no class that has a folder in {folder / 'train'}")
    images = folder / "val" / "images"
    files = [inside(images, row[0], f"{annotations}: line {number}") for number, row in enumerate(rows, 1)]
    check_there(files, str(annotations))
    return samples_from_files(files, [labels[row[1]] for row in rows], str(folder / "val"))


# The folders of Imagenette's classes, and their names.
_IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def _imagenette(name: str, folder: str, md5: str) -> Dataset:
    def read(root: Path | None, split: Split) -> Samples:
        return samples_from_class_folders(in_root(root, f"{folder}/{_SPLITS[split]}", name), _IMAGENETTE)

    return Dataset(
        name=name,
        count=10,
        names=lambda: list(_IMAGENETTE.values()),
        sizes={"train": 9_469, "test": 3_925},
        layout=(f"{folder}/train", f"{folder}/val"),
        license=f"Apache 2.0 for the selection; its images are ImageNet's: {_LICENSE}",
        origin="https://github.com/fastai/imagenette",
        read=read,
        # The URL and the checksum are the ones in torchvision.
        get=getter(name, "", Archive(f"https://s3.amazonaws.com/fast-ai-imageclas/{folder}.tgz", md5, folder)),
    )


_SPLITS = {"train": "train", "test": "val"}
_TINY = Archive(
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de", "tiny-imagenet-200"
)
_LT_LISTS = "https://raw.githubusercontent.com/facebookresearch/classifier-balancing/main/data/ImageNet_LT"

IMAGENETS = (
    Dataset(
        name="imagenet",
        count=1000,
        names=_imagenet_names,
        # "test" is the validation images, since the labels of the test images are not public.
        sizes={"train": 1_281_167, "test": 50_000},
        layout=tuple(_FOLDERS.values()),
        license=_LICENSE,
        origin="https://image-net.org/challenges/LSVRC/2012",
        read=_imagenet,
        get=_get_imagenet,
        by_hand=_BY_HAND,
    ),
    Dataset(
        name="imagenet-100",
        count=100,
        names=lambda: IMAGENET_100.read_text().split(),
        sizes={"train": 126_689, "test": 5_000},
        layout=tuple(_FOLDERS.values()),
        license=_LICENSE,
        origin="ImageNet, and the classes of github.com/HobbitLong/CMC's imagenet100.txt",
        read=_imagenet_100,
        get=_get_imagenet,
        by_hand=_BY_HAND,
    ),
    Dataset(
        name="imagenet-lt",
        count=1000,
        names=_imagenet_names,
        sizes={"train": 115_846, "test": 50_000},
        layout=("imagenet-lt/ImageNet_LT_train.txt", "imagenet-lt/ImageNet_LT_test.txt", *_FOLDERS.values()),
        license=_LICENSE,
        origin="ImageNet, and the lists of Liu et al. (CVPR 2019)",
        read=_imagenet_lt,
        by_hand=f"curl --create-dirs --output-dir ROOT/imagenet-lt -LO '{_LT_LISTS}/ImageNet_LT_{{train,test}}.txt'; "
        "and ImageNet, which `twoview data imagenet` gets",
    ),
    Dataset(
        name="tiny-imagenet",
        count=200,
        # "test" is the validation images, since the labels of the test images are not public.
        sizes={"train": 100_000, "test": 10_000},
        layout=("tiny-imagenet-200/train", "tiny-imagenet-200/val/images", "tiny-imagenet-200/val/val_annotations.txt"),
        license="not stated by its authors; its images are ImageNet's",
        origin="http://cs231n.stanford.edu/tiny-imagenet-200.zip, with the checksum that its users share",
        read=_tiny_imagenet,
        get=getter("tiny-imagenet", "", _TINY),
    ),
    _imagenette("imagenette", "imagenette2", "fe2fc210e6bb7c5664d602c3cd71e612"),
    _imagenette("imagenette-160", "imagenette2-160", "e793b78cc4c9e9a4ccc0c1155377a412"),
)
