"""Name -> samples. Each dataset looks in the data root, then in system packages, then downloads through torchvision.

The result says which of the three it took (`Samples.source`).
"""

import gzip
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from loaders.beton import JPEG, RAW, Stored
from loaders.names import look_up

Split = str  # "train" or "test"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's weights
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
DOWNLOADS = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "twoview"  # without a data root
PHOTOGRAPHS = 320  # how many JPEGs the photographs are cut into


@dataclass(frozen=True)
class Samples:
    """Samples of one split. image(i) gives uint8 (H, W, 3) pixels, or the bytes of a JPEG to be kept as they are."""

    image: Callable[[int], np.ndarray | bytes]
    labels: np.ndarray
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> Stored:
        """Sample `index` as it goes into a beton file."""
        image, label = self.image(index), int(self.labels[index])
        if isinstance(image, bytes):
            with Image.open(io.BytesIO(image)) as header:
                return Stored(JPEG, header.height, header.width, image, label)
        return Stored(RAW, image.shape[0], image.shape[1], image.tobytes(), label)


@dataclass(frozen=True)
class Dataset:
    """A named dataset: its classes and channel statistics (of values in [0, 1]), and how to find its splits.

    find: (data root or None, split) -> Samples; raises FileNotFoundError where nothing is found and nothing can be had.
    statistics: where mean and std come from.
    """

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    statistics: str
    licence: str
    find: Callable[[Path | None, Split], Samples]


def dataset(name: str) -> Dataset:
    """The dataset of that name. ValueError with the known names, the nearest first, if there is none."""
    return look_up("dataset", name, DATASETS)


def data_root(given: Path | None = None) -> Path | None:
    """The folder of the user's datasets: --data-root, or else TWOVIEW_DATA, or none.

    FileNotFoundError, naming the folder and where the name came from, if it is not there.
    """
    origin = "--data-root" if given else "TWOVIEW_DATA"
    named = given or os.environ.get("TWOVIEW_DATA")
    if not named:
        return None
    root = Path(named).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"the data root {root} named by {origin} is not a folder")
    return root


def image_folder(folder: Path) -> Samples:
    """Any folder of class folders of images, classes in the order of their names, as torchvision's ImageFolder has it.

    JPEG files in colour, upright, keep their bytes; every other image becomes RGB pixels.
    """
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    suffixes = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
    files, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(file for file in (folder / name).rglob("*") if file.suffix.lower() in suffixes)
        if not found:
            raise FileNotFoundError(f"the class folder {folder / name} holds no image")
        files += found
        labels += [label] * len(found)
    if not files:
        raise FileNotFoundError(f"{folder} is not a folder of class folders of images")
    return Samples(lambda index: read_image(files[index]), np.array(labels, np.int64), str(folder))


def read_image(file: Path) -> np.ndarray | bytes:
    """An image file as JPEG bytes where the loader can take them as they are, else as uint8 (H, W, 3) pixels.

    Pixels are turned upright by their EXIF tag. ValueError, naming the file, for what cannot become 8-bit RGB.
    """
    content = file.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            upright = image.getexif().get(0x0112, 1) == 1
            if image.format == "JPEG" and image.mode in ("RGB", "L") and upright:
                return content
            if image.mode not in ("RGB", "L", "P", "RGBA", "LA", "CMYK", "1", "YCbCr"):
                raise ValueError(f"{file} has pixels of mode {image.mode}, which 8-bit RGB cannot hold")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from None


def _arrays(images: np.ndarray, labels: Sequence[int] | np.ndarray, source: str) -> Samples:
    return Samples(lambda index: images[index], np.asarray(labels, np.int64), source)


def _fashion_mnist(root: Path | None, split: Split) -> Samples:
    prefix = {"train": "train", "test": "t10k"}[split]
    raw = (root or DOWNLOADS) / "FashionMNIST" / "raw"
    for folder in (raw, DEBIAN_FASHION_MNIST):
        if (images := _idx(folder, f"{prefix}-images-idx3-ubyte", (-1, 28, 28))) is not None:
            labels = _idx(folder, f"{prefix}-labels-idx1-ubyte", (-1,))
            if labels is None or len(labels) != len(images):
                raise ValueError(f"{folder}: the labels of {prefix}-images-idx3-ubyte are missing or too few")
            return _arrays(np.repeat(images[..., None], 3, axis=3), labels, str(folder))
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(root or DOWNLOADS), download=True)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"fashion-mnist is neither in {raw} nor in {DEBIAN_FASHION_MNIST}, and downloading it failed: {error}"
        ) from None
    return _fashion_mnist(root, split)


def _idx(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The uint8 values of an idx file, packed by gzip or not; None if it is not there."""
    for file, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if file.is_file():
            with opener(file, "rb") as stream:
                content = stream.read()
            header = 4 + 4 * len(shape)
            return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    return None


def _cifar(name: str, folder: str) -> Callable[[Path | None, Split], Samples]:
    def find(root: Path | None, split: Split) -> Samples:
        if root is None:
            raise FileNotFoundError(f"{folder} needs a data root: name one with --data-root or TWOVIEW_DATA")
        import torchvision.datasets

        cifar = getattr(torchvision.datasets, name)
        there = (root / folder).is_dir()
        try:
            data = cifar(str(root), train=split == "train", download=not there)
        except RuntimeError as error:
            raise FileNotFoundError(f"{root / folder}: {error}") from None
        return _arrays(data.data, data.targets, str(root / folder) if there else f"{root / folder}, downloaded")

    return find


def _photographs(root: Path | None, split: Split) -> Samples:
    """JPEG crops, 300 to 640 pixels a side, of the photographs in scikit-learn and scikit-image; label = photograph.

    The crops' places are a fixed low-discrepancy sequence, so that every machine has the same files.
    """
    pictures = list(bundled_photographs().values())
    crops = range(PHOTOGRAPHS) if split == "train" else range(PHOTOGRAPHS, PHOTOGRAPHS + 64)

    def jpeg(index: int) -> bytes:
        crop = crops[index]
        picture = pictures[crop % len(pictures)]
        # The R4 sequence (Roberts 2018) spreads width, height, left and top evenly.
        width, height, left, top = (crop * step % 1 for step in (0.8567, 0.7339, 0.6287, 0.5386))
        w = int(300 + width * (min(640, picture.width) - 299))
        h = int(300 + height * (min(640, picture.height) - 299))
        x, y = int(left * (picture.width - w + 1)), int(top * (picture.height - h + 1))
        buffer = io.BytesIO()
        picture.crop((x, y, x + w, y + h)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    labels = np.array([crop % len(pictures) for crop in crops], np.int64)
    return Samples(jpeg, labels, "photographs of scikit-learn and scikit-image")


def bundled_photographs() -> dict[str, Image.Image]:
    """The colour photographs, at least 300 pixels a side, inside the installed scikit-learn and scikit-image."""
    import skimage
    import sklearn

    learn = Path(sklearn.__file__).parent / "datasets" / "images"
    image = Path(skimage.__file__).parent / "data"
    files = [learn / "china.jpg", learn / "flower.jpg"]
    files += [
        image / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    ]
    return {file.stem: Image.open(file).convert("RGB") for file in files}


_FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DATASETS = {
    entry.name: entry
    for entry in (
        Dataset(
            "fashion-mnist",
            _FASHION,
            (0.2860,) * 3,
            (0.3530,) * 3,
            "computed on the training images",
            "MIT",
            _fashion_mnist,
        ),
        Dataset(
            "cifar10",
            _CIFAR10,
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
            "computed on the training images",
            "not stated by its authors",
            _cifar("CIFAR10", "cifar-10-batches-py"),
        ),
        Dataset(
            "photographs",
            ("china", "flower", "astronaut", "chelsea", "coffee", "motorcycle_left", "rocket"),
            IMAGENET_MEAN,
            IMAGENET_STD,
            "torchvision's ImageNet values",
            "see scikit-learn and scikit-image",
            _photographs,
        ),
    )
}
