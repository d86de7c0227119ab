"""Samples of a split: from arrays, from files, from class folders, from lists of files."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from twoview.loaders.beton import JPEG, RAW, Stored, check_fits
from twoview.loaders.checksum import xxh64_of
from twoview.loaders.decode import jpeg_shape
from twoview.loaders.files import NUMBER, bytes_of, lines_of
from twoview.loaders.images import check_jpeg, naming, open_image, smaller
from twoview.loaders.limits import IMAGE_BYTES, PIXELS

# What is an image by its name. HEIC is among them to be refused: left out, it would be missing without a word.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".avif"),
    *(".heic", ".heif"),
}
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # PIL's, of at most 8 bits a channel
# Folders that systems leave beside or among the classes; those whose names begin with a dot are none either.
NO_CLASSES = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
_ORIENTATION = 0x0112
_TURNS = {  # the orientation by EXIF -> what makes the image upright, as in PIL's `exif_transpose`
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Samples:
    """Samples of one split. image(i) gives uint8 (H, W, 3) pixels, or the bytes of a JPEG to be kept as they are.

    files: the file of each sample; empty where they are not in files of their own.
    large(i, longest) gives the same of an image that will be made smaller, to have no side longer than that; `image`
    refuses it where no page of a beton holds its pixels. None where `image` does not.
    """

    image: Callable[[int], np.ndarray | bytes]
    labels: np.ndarray
    source: str
    files: Sequence[str] = ()
    large: Callable[[int, int], np.ndarray | bytes] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def relative(self) -> Sequence[str]:
        """The files' paths below the folder that they have in common: the same wherever the data root is."""
        if not self.files:
            return ()
        first, last = min(self.files), max(self.files)  # what these share, all share
        start = len(os.path.join(os.path.commonpath([os.path.dirname(first), os.path.dirname(last)]), ""))
        return [file[start:] for file in self.files]

    def listing(self) -> str | None:
        """XXH64 of the files' relative paths and labels, in order; None where the samples are not in files."""
        if not self.files:
            return None
        names = "\0".join(self.relative).encode("utf-8", "surrogateescape")
        return f"{xxh64_of(names, self.labels.astype('<i8')):016x}"

    def name(self, index: int) -> str:
        """What a sentence calls sample `index`."""
        return self.files[index] if self.files else f"sample {index} of {self.source}"

    def stored(self, index: int) -> Stored:
        """Sample `index` as it goes into a beton file.

        ValueError, naming it, for pixels that are not 8-bit RGB, and for more of them than `limits.PIXELS`.
        """
        image, label, name = self.image(index), int(self.labels[index]), self.name(index)
        if isinstance(image, bytes):
            height, width = jpeg_shape(image)
            PIXELS.check(height * width, name)
            return Stored(JPEG, height, width, image, label, name)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"{name} must be uint8 pixels (height, width, 3), got {image.dtype} {image.shape}")
        return Stored(RAW, image.shape[0], image.shape[1], image.tobytes(), label, name)


def samples_from_arrays(images: np.ndarray, labels: Sequence[int] | np.ndarray, source: str) -> Samples:
    """images: uint8 (N, H, W, 3). labels: whole numbers (N,). ValueError for labels that are not."""
    return Samples(lambda index: images[index], _labels(labels, len(images), source), source)


def samples_from_files(files: Sequence[str], labels: Sequence[int] | np.ndarray, source: str) -> Samples:
    """files: N image files. labels: whole numbers (N,). ValueError for labels that are not."""
    found = _labels(labels, len(files), source)

    def image(index: int, longest: int | None = None) -> np.ndarray | bytes:
        return read_image(Path(files[index]), longest)

    return Samples(image, found, source, files, image)


def _labels(labels: Sequence[int] | np.ndarray, count: int, source: str) -> np.ndarray:
    """int64 (count,)."""
    given = np.asarray(labels)
    if given.shape != (count,):
        raise ValueError(f"{source}: there must be a label for each of {count} images, got {given.shape}")
    whole = given.dtype.kind in "biu"
    if count and not (whole and int(given.max()) < 1 << 63):
        found = given.max() if whole else given.dtype
        raise ValueError(f"{source}: labels must be whole numbers below 2 ** 63, got {found}")
    return given.astype(np.int64)


def image_folder(folder: Path) -> Samples:
    """Any folder of class folders of images, classes in the order of their names, as torchvision's ImageFolder has it.

    JPEG files keep their bytes where the loader can take them; every other image becomes RGB pixels. See `read_image`.
    """
    names = folder_names(folder) if folder.is_dir() else []
    if not names:
        raise FileNotFoundError(f"{folder} is not a folder of class folders of images")
    return samples_from_class_folders(folder, names)


def samples_from_class_folders(folder: Path, names: Iterable[str]) -> Samples:
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
    return samples_from_files(files, labels, str(folder))


def folder_names(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted, without those that hold no data and links to itself or above."""
    whole = folder.resolve()
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if _of_the_data(entry.name)
            and entry.is_dir()
            and not (entry.is_symlink() and whole.is_relative_to(os.path.realpath(entry.path)))
        )


def images_in(folder: Path) -> list[str]:
    """The image files in `folder` and below, in torchvision's order.

    Links are followed, but no folder is entered twice, nor one that `folder` is in. OSError for one that cannot be
    read.
    """
    entered = {_place(above) for above in folder.resolve().parents}
    found: list[tuple[str, list[str]]] = []
    for below, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        if _place(below) in entered:
            folders.clear()
            continue
        entered.add(_place(below))
        folders[:] = sorted(filter(_of_the_data, folders))
        found.append((below, sorted(filter(_of_the_data, names))))
    return [
        os.path.join(below, name)
        for below, names in sorted(found)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES
    ]


def _of_the_data(name: str) -> bool:
    """Whether a file or folder of that name may be a dataset's: not so `._cat.jpg` and `.ipynb_checkpoints`."""
    return not name.startswith(".") and name not in NO_CLASSES


def _place(folder: str | Path) -> tuple[int, int]:
    """What tells a folder from every other, by whichever path it is reached."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _fail(error: OSError) -> None:
    raise error


def samples_from_list(file: Path, folder: Path, classes: int, separator: str | None = None) -> Samples:
    """The images that a list names, a line each: a path below `folder`, the separator (white space), a label.

    ValueError naming file and line of what is no such path and label below `classes`; FileNotFoundError naming the list
    and the first of its images that is not there.
    """
    files, labels = [], []
    for number, line in enumerate(lines_of(file), 1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(separator or " ")
        if not path or not NUMBER.fullmatch(label) or int(label) >= classes:
            raise ValueError(f"{file}: line {number} is not a path and a class below {classes}: {line[:80]!r}")
        files.append(inside(folder, path.strip(), f"{file}: line {number}"))
        labels.append(int(label))
    check_there(files, str(file))
    return samples_from_files(files, labels, f"{folder}, listed in {file}")


def inside(folder: Path, path: str, listed_in: str) -> str:
    """The file at a path that a list names, which is one below `folder`. ValueError, naming the list, if it is not."""
    if not path or "\0" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{listed_in} must name a path below {folder}, got {path[:80]!r}")
    return str(folder / path)


def check_there(files: Iterable[str], listed_in: str) -> None:
    """FileNotFoundError naming the first file that is not there, and the list; each folder is read only once."""
    held: dict[str, set[str]] = {}
    for file in files:
        folder, name = os.path.split(file)
        if folder not in held:
            held[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in held[folder]:
            raise FileNotFoundError(f"{listed_in} names {file}, which is not there")


def read_image(file: Path, longest: int | None = None) -> np.ndarray | bytes:
    """An image file as JPEG bytes where the loader can take them as they are, else as uint8 (H, W, 3) pixels.

    Pixels are PIL's, turned upright by their EXIF tag. ValueError, naming the file, for what cannot be read, cannot
    become 8-bit RGB, or has more pixels than a page of a beton holds, before they are decoded. `loaders/IMAGES.md` says
    what becomes of which kind of file.
    longest: of the sides that are stored, where the caller makes larger images smaller; None where it does not.
    """
    try:
        content = bytes_of(file, IMAGE_BYTES)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    image = open_image(content, str(file))
    if image.mode not in MODES:
        raise ValueError(f"{file} has pixels of mode {image.mode}, which 8-bit RGB cannot hold")
    if image.format in ("JPEG", "MPO") and check_jpeg(content, str(file)) and _turn(image) is None:
        return content
    width, height = smaller(image.size, longest) if longest else image.size
    check_fits(str(file), RAW, height, width, 3 * height * width)
    with naming(str(file)):
        image.load()  # before its EXIF is asked for, which may stand behind the pixels
        turn = _turn(image)
        upright = image if turn is None else image.transpose(turn)
        upright.info.pop("transparency", None)  # says nothing about RGB, and PIL warns of some kinds of it
        return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))  # which would copy it


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the image upright, as its EXIF has it; None where that is damaged, as foreign EXIF may be."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:
        return None
