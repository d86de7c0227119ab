"""Samples of a split: from arrays, from files, from class folders, from lists of files."""

import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from loaders.beton import JPEG, RAW, Stored
from loaders.decode import STATUS_TEXT, jpeg_fault, jpeg_shape

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


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
            return Stored(JPEG, *jpeg_shape(image), image, label)
        return Stored(RAW, image.shape[0], image.shape[1], image.tobytes(), label)


def of_arrays(images: np.ndarray, labels: Sequence[int] | np.ndarray, source: str) -> Samples:
    """images: uint8 (N, H, W, 3). labels: (N,)."""
    return Samples(lambda index: images[index], np.asarray(labels, np.int64), source)


def of_files(files: Sequence[str], labels: Sequence[int] | np.ndarray, source: str) -> Samples:
    """files: N image files. labels: (N,)."""
    return Samples(lambda index: read_image(Path(files[index])), np.asarray(labels, np.int64), source)


def image_folder(folder: Path) -> Samples:
    """Any folder of class folders of images, classes in the order of their names, as torchvision's ImageFolder has it.

    JPEG files in colour, upright, keep their bytes; every other image becomes RGB pixels.
    """
    names = folder_names(folder) if folder.is_dir() else []
    if not names:
        raise FileNotFoundError(f"{folder} is not a folder of class folders of images")
    return of_class_folders(folder, names)


def of_class_folders(folder: Path, names: Iterable[str]) -> Samples:
    """The images in `folder`'s class folders `names`; a label is a place in `names`.

    FileNotFoundError naming the class folder that is missing or holds no image.
    """
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"the class folder {folder / name} is missing")
        found = images_in(folder / name)
        if not found:
            raise FileNotFoundError(f"the class folder {folder / name} holds no image")
        files += found
        labels += [label] * len(found)
    return of_files(files, labels, str(folder))


def folder_names(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def images_in(folder: Path) -> list[str]:
    """The image files in `folder` and below, in torchvision's order."""
    walked = sorted(os.walk(folder, followlinks=True))
    return [
        os.path.join(below, name)
        for below, _, names in walked
        for name in sorted(names)
        if os.path.splitext(name)[1].lower() in SUFFIXES
    ]


def of_list(file: Path, folder: Path, classes: int, separator: str | None = None) -> Samples:
    """The images that a list names, a line each: a path below `folder`, the separator (white space), a label.

    ValueError naming file and line of what is no path and label below `classes`; FileNotFoundError naming the list and
    the first of its images that is not there.
    """
    files, labels = [], []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(separator or " ")
        if not path or not label.isdecimal() or int(label) >= classes:
            raise ValueError(f"{file}: line {number} is not a path and a class below {classes}: {line[:80]!r}")
        files.append(str(folder / path.strip()))
        labels.append(int(label))
    check_there(files, str(file))
    return of_files(files, labels, f"{folder}, listed in {file}")


def check_there(files: Iterable[str], listed_in: str) -> None:
    """FileNotFoundError naming the first file that is not there, and the list; each folder is read only once."""
    held: dict[str, set[str]] = {}
    for file in files:
        folder, name = os.path.split(file)
        if folder not in held:
            held[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in held[folder]:
            raise FileNotFoundError(f"{listed_in} names {file}, which is not there")


def read_image(file: Path) -> np.ndarray | bytes:
    """An image file as JPEG bytes where the loader can take them as they are, else as uint8 (H, W, 3) pixels.

    Pixels are turned upright by their EXIF tag. ValueError, naming the file, for what cannot become 8-bit RGB.
    """
    content = file.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            upright = image.getexif().get(0x0112, 1) == 1
            if image.format == "JPEG" and image.mode in ("RGB", "L") and upright:
                if fault := jpeg_fault(content):
                    raise ValueError(f"{file}: {STATUS_TEXT[fault]}")
                return content
            if image.mode not in ("RGB", "L", "P", "RGBA", "LA", "CMYK", "1", "YCbCr"):
                raise ValueError(f"{file} has pixels of mode {image.mode}, which 8-bit RGB cannot hold")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from None
