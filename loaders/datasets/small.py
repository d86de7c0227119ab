"""Datasets that fit in memory: Fashion-MNIST, CIFAR, STL-10, and the photographs that installed packages contain."""

import io
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from twoview.loaders.datasets.archives import Archive, gunzipped
from twoview.loaders.datasets.declaration import Dataset, Split, getter, in_root
from twoview.loaders.datasets.samples import Samples, samples_from_arrays
from twoview.loaders.errors import reason
from twoview.loaders.files import bytes_of
from twoview.loaders.images import open_image
from twoview.loaders.limits import LIST_BYTES

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
# Where downloads go if there is no data root.
DOWNLOADS = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "twoview"
PHOTOGRAPHS = 320  # number of JPEG crops of the photographs in the train split

_FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# The fine labels, in the order of the archive's file `meta`.
_CIFAR100 = Path(__file__).with_name("cifar100.txt")
_STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_PHOTOGRAPHS = ("china", "flower", "astronaut", "chelsea", "coffee", "motorcycle_left", "rocket")


def _fashion_mnist(root: Path | None, split: Split) -> Samples:
    """Read the idx files in the data root (or the download folder), or else in the Debian package."""
    prefix = {"train": "train", "test": "t10k"}[split]
    raw = (root or DOWNLOADS) / "FashionMNIST" / "raw"
    for folder in (raw, DEBIAN_FASHION_MNIST):
        if (images := _idx(folder, f"{prefix}-images-idx3-ubyte", (-1, 28, 28))) is not None:
            labels = _idx(folder, f"{prefix}-labels-idx1-ubyte", (-1,))
            if labels is None or len(labels) != len(images):
                raise ValueError(
                    f"{folder}: the labels of {prefix}-images-idx3-ubyte are missing, or not one for each image"
                )
            return samples_from_arrays(np.repeat(images[..., None], 3, axis=3), labels, str(folder))
    raise FileNotFoundError(f"fashion-mnist is neither in {raw} nor in {DEBIAN_FASHION_MNIST}")


def _idx(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the uint8 values of an idx file (MNIST's format), gzipped or not, or None if it does not exist.

    Raises ValueError, naming the file, if it is damaged, not a regular file, or larger than `limits.LIST_BYTES` or
    `limits.UNPACKED` allow.
    """
    for file in (folder / name, folder / f"{name}.gz"):
        if file.exists():
            content = gunzipped(file) if file.suffix == ".gz" else bytes_of(file, LIST_BYTES)
            # The header is a magic number and the length of each dimension, four bytes each.
            values = np.frombuffer(content[4 + 4 * len(shape) :], np.uint8)
            if values.size % math.prod(shape[1:]):
                sides = " x ".join(map(str, shape[1:]))
                raise ValueError(f"{file} must hold images of {sides} bytes, but ends within one: it is damaged")
            return values.reshape(shape)
    return None


def _get_fashion_mnist(root: Path | None) -> None:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(root or DOWNLOADS), download=True)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"downloading fashion-mnist into {root or DOWNLOADS} failed: {reason(error)}") from None


def _cifar(name: str, archive: Archive) -> Callable[[Path | None, Split], Samples]:
    """Return the `Dataset.read` of CIFAR-10 or CIFAR-100: torchvision checks the files and reads them."""

    def read(root: Path | None, split: Split) -> Samples:
        import torchvision.datasets

        folder = in_root(root, archive.holds, name)
        try:
            data = getattr(torchvision.datasets, name.upper())(str(root), train=split == "train")
        except RuntimeError:
            raise FileNotFoundError(f"{folder} lacks a file, or a file's checksum is not the published one") from None
        return samples_from_arrays(data.data, data.targets, str(folder))

    return read


def _stl10(root: Path | None, split: Split) -> Samples:
    from torchvision.datasets import STL10

    folder = in_root(root, "stl10_binary", "stl10")
    try:
        data = STL10(str(root), split=split)
    except RuntimeError:
        raise FileNotFoundError(f"{folder} lacks a file, or a file's checksum is not the published one") from None
    return samples_from_arrays(data.data.transpose(0, 2, 3, 1), data.labels, str(folder))


def _photographs(root: Path | None, split: Split) -> Samples:
    """Return JPEG crops of the photographs in scikit-learn and scikit-image, with sides of 300 to 500 pixels.

    The label is the number of the photograph. The crops' positions and sizes follow a fixed low-discrepancy sequence,
    so that every machine has the same files.
    """
    photographs = list(bundled_photographs().values())
    crops = range(PHOTOGRAPHS) if split == "train" else range(PHOTOGRAPHS, PHOTOGRAPHS + 64)

    def jpeg(index: int) -> bytes:
        crop = crops[index]
        photograph = photographs[crop % len(photographs)]
        # The R4 sequence (Roberts 2018) spreads width, height, left and top evenly.
        width, height, left, top = (crop * step % 1 for step in (0.8567, 0.7339, 0.6287, 0.5386))
        w = int(300 + width * (min(500, photograph.width) - 299))
        h = int(300 + height * (min(500, photograph.height) - 299))
        x, y = int(left * (photograph.width - w + 1)), int(top * (photograph.height - h + 1))
        buffer = io.BytesIO()
        photograph.crop((x, y, x + w, y + h)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    labels = np.array([crop % len(photographs) for crop in crops], np.int64)
    return Samples(jpeg, labels, "photographs of scikit-learn and scikit-image")


def bundled_photographs() -> dict[str, Image.Image]:
    """Return the color photographs in the installed scikit-learn and scikit-image, by name, as RGB.

    Their sides have at least 300 pixels.
    """
    import skimage
    import sklearn

    learn = Path(sklearn.__file__).parent / "datasets" / "images"
    image = Path(skimage.__file__).parent / "data"
    files = [learn / "china.jpg", learn / "flower.jpg"]
    files += [
        image / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    ]
    return {file.stem: open_image(file.read_bytes(), str(file)).convert("RGB") for file in files}


# The URLs and checksums are the ones in torchvision.
_CIFAR10_ARCHIVE = Archive(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py"
)
_CIFAR100_ARCHIVE = Archive(
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", "cifar-100-python"
)
_STL10_ARCHIVE = Archive(
    "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz", "91f7769df0f17e558f3565bffb0c7dfb", "stl10_binary"
)

SMALL = (
    Dataset(
        name="fashion-mnist",
        count=10,
        names=lambda: _FASHION,
        sizes={"train": 60_000, "test": 10_000},
        mean=(0.2860,) * 3,
        std=(0.3530,) * 3,
        statistics="computed on the training images",
        layout=("FashionMNIST/raw",),
        license="MIT",
        origin="https://github.com/zalandoresearch/fashion-mnist, or Debian's package dataset-fashion-mnist",
        read=_fashion_mnist,
        get=_get_fashion_mnist,
        small=True,
    ),
    Dataset(
        name="cifar10",
        count=10,
        names=lambda: _CIFAR10,
        sizes={"train": 50_000, "test": 10_000},
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        statistics="computed on the training images",
        layout=(_CIFAR10_ARCHIVE.holds,),
        license="not stated by its authors",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        read=_cifar("cifar10", _CIFAR10_ARCHIVE),
        get=getter("cifar10", "", _CIFAR10_ARCHIVE),
        small=True,
    ),
    Dataset(
        name="cifar100",
        count=100,
        names=lambda: _CIFAR100.read_text().split(),
        sizes={"train": 50_000, "test": 10_000},
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        statistics="of the training images, as github.com/weiaicunzai/pytorch-cifar100 gives them",
        layout=(_CIFAR100_ARCHIVE.holds,),
        license="not stated by its authors",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        read=_cifar("cifar100", _CIFAR100_ARCHIVE),
        get=getter("cifar100", "", _CIFAR100_ARCHIVE),
        small=True,
    ),
    Dataset(
        name="stl10",
        count=10,
        names=lambda: _STL10,
        sizes={"train": 5_000, "test": 8_000, "unlabeled": 100_000},  # all labels of "unlabeled" are -1
        layout=(_STL10_ARCHIVE.holds,),
        license="not stated by its authors; its images are ImageNet's",
        origin="https://cs.stanford.edu/~acoates/stl10",
        read=_stl10,
        get=getter("stl10", "", _STL10_ARCHIVE),
    ),
    Dataset(
        name="photographs",
        count=len(_PHOTOGRAPHS),
        names=lambda: _PHOTOGRAPHS,
        sizes={"train": PHOTOGRAPHS, "test": 64},
        layout=(),
        license="see scikit-learn and scikit-image",
        origin="the installed packages scikit-learn and scikit-image",
        read=_photographs,
    ),
)
