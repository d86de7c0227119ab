"""The samples of a split, from arrays, from files, from class folders or from lists of files."""

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
from twoview.loaders.storage import PLAIN, Storage

# Files with these suffixes are taken for images. HEIC is among them although it cannot be read: it is refused with an
# error, since otherwise the images would be missing silently.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".avif"),
    *(".heic", ".heif"),
}
# PIL's modes with at most 8 bits per channel.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# Folders that operating systems create next to or among the class folders. Names that begin with a dot are ignored too.
NO_CLASSES = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
# What `images_in` ignores: the reason, in words that fit after a number -> the paths.
Ignored = dict[str, list[str]]
HIDDEN = "hidden or system files and folders"
NO_IMAGE = "files without the suffix of an image"
IN_A_CIRCLE = "links to folders that were read already"
_ORIENTATION = 0x0112  # number of the EXIF tag
_TURNS = {  # EXIF orientation -> the transposition that makes the image upright, as in PIL's `exif_transpose`
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
    """The samples of one split: images and labels.

    image: image(i) returns the pixels of sample i, uint8 (H, W, 3), or the bytes of a JPEG that is stored as it is.
    labels: int64 (N,). source: where the samples were found.
    files: the path of each sample's file; empty if the samples are not in files of their own.
    large: large(i, storage) is image(i) for a caller that will make the image smaller as `storage` says. It therefore
        accepts images that `image` refuses because their pixels do not fit into a page of a beton (a dataset file in
        FFCV's format). None if `image` refuses no image for its size.
    place: place(i) says where sample i is if it has no file of its own: the path of the file that holds it, a slash,
        and its name or number there. None if that is not known.
    """

    image: Callable[[int], np.ndarray | bytes]
    labels: np.ndarray
    source: str
    files: Sequence[str] = ()
    large: Callable[[int, Storage], np.ndarray | bytes] | None = None
    place: Callable[[int], str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def relative(self) -> Sequence[str]:
        """The files' paths below their common folder, which do not depend on where the data root is."""
        if not self.files:
            return ()
        first, last = min(self.files), max(self.files)  # a prefix that these two share is shared by all
        start = len(os.path.join(os.path.commonpath([os.path.dirname(first), os.path.dirname(last)]), ""))
        return [file[start:] for file in self.files]

    def listing(self) -> str | None:
        """Return a hash (XXH64) of all relative paths and labels, in order, or None if the samples are not in files."""
        if not self.files:
            return None
        names = "\0".join(self.relative).encode("utf-8", "surrogateescape")
        return f"{xxh64_of(names, self.labels.astype('<i8')):016x}"

    def name(self, index: int) -> str:
        """Return the name of sample `index` for messages."""
        if self.files:
            return self.files[index]
        return self.place(index) if self.place else f"sample {index} of {self.source}"

    def stored(self, index: int) -> Stored:
        """Return sample `index` as it is stored in a beton file.

        Raises ValueError, naming the sample, if its pixels are not 8-bit RGB or are more than `limits.PIXELS` allows.
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
    """Return the samples of an array of images.

    images: uint8 (N, H, W, 3). labels: whole numbers (N,). Raises ValueError for other labels.
    """
    return Samples(lambda index: images[index], _labels(labels, len(images), source), source)


def samples_from_files(files: Sequence[str], labels: Sequence[int] | np.ndarray, source: str) -> Samples:
    """Return samples that are read from image files on demand.

    files: paths of N image files. labels: whole numbers (N,). Raises ValueError for other labels.
    """
    found = _labels(labels, len(files), source)

    def image(index: int, storage: Storage = PLAIN) -> np.ndarray | bytes:
        return read_image(Path(files[index]), storage)

    return Samples(image, found, source, files, image)


def _labels(labels: Sequence[int] | np.ndarray, count: int, source: str) -> np.ndarray:
    """Return the labels as int64 (count,). Raises ValueError unless they are `count` whole numbers below 2 ** 63."""
    given = np.asarray(labels)
    if given.shape != (count,):
        raise ValueError(
            f"{source}: there must be a label for each of {count} images, got labels of shape {given.shape}"
        )
    whole = given.dtype.kind in "biu"
    if count and not (whole and int(given.max()) < 1 << 63):
        found = given.max() if whole else given.dtype
        raise ValueError(f"{source}: labels must be whole numbers below 2 ** 63, got {found}")
    return given.astype(np.int64)


def image_folder(folder: Path) -> Samples:
    """Return the samples of any folder of class folders of images, like torchvision's ImageFolder.

    Labels follow the order of the class names. JPEG files that the loader can decode keep their bytes; every other
    image becomes RGB pixels, see `read_image`.
    """
    names = folder_names(folder) if folder.is_dir() else []
    if not names:
        raise FileNotFoundError(f"{folder} is not a folder of class folders of images")
    return samples_from_class_folders(folder, names)


def samples_from_class_folders(folder: Path, names: Iterable[str]) -> Samples:
    """Return the images in the class folders `names` of `folder`. A label is the class's position in `names`.

    Raises FileNotFoundError, naming the class folder, if one is missing or holds no image.
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
    """Return the sorted names of the folders in `folder` that may be classes.

    Folders of the operating system, names that begin with a dot, and links to `folder` or to a folder above it are
    skipped.
    """
    whole = folder.resolve()
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if _of_the_data(entry.name)
            and entry.is_dir()
            and not (entry.is_symlink() and whole.is_relative_to(os.path.realpath(entry.path)))
        )


def images_in(folder: Path, ignored: Ignored | None = None) -> list[str]:
    """Return the paths of the image files in `folder` and below, in torchvision's order.

    Links are followed, but no folder is entered twice, nor any folder that contains `folder`. ignored: receives what
    is not an image of the dataset. Raises OSError for a folder that cannot be read.
    """
    ignored = {} if ignored is None else ignored
    entered = {_place(above) for above in folder.resolve().parents}
    found: list[tuple[str, list[str]]] = []
    for below, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        if _place(below) in entered:
            ignored.setdefault(IN_A_CIRCLE, []).append(below)
            folders.clear()
            continue
        entered.add(_place(below))
        kept = [name for name in names if of_an_image(name)]
        if len(kept) < len(names):
            others = set(names).difference(kept)
            _note(ignored, HIDDEN, below, (name for name in others if not _of_the_data(name)))
            _note(ignored, NO_IMAGE, below, filter(_of_the_data, others))
        _note(ignored, HIDDEN, below, (name for name in folders if not _of_the_data(name)))
        folders[:] = sorted(filter(_of_the_data, folders))
        found.append((below, sorted(kept)))
    return [f"{below}{os.sep}{name}" for below, names in sorted(found) for name in names]


def of_an_image(name: str) -> bool:
    """Return whether a file with that name may be an image of a dataset."""
    return name[name.rfind(".") :].lower() in SUFFIXES and _of_the_data(name)


def _of_the_data(name: str) -> bool:
    """Return whether a file or folder with that name may belong to a dataset, unlike `.ipynb_checkpoints`."""
    return name[0] != "." and name not in NO_CLASSES


def _note(ignored: Ignored, reason: str, folder: str, names: Iterable[str]) -> None:
    """Add the paths of what is ignored in a folder."""
    if paths := [os.path.join(folder, name) for name in names]:
        ignored.setdefault(reason, []).extend(paths)


def _place(folder: str | Path) -> tuple[int, int]:
    """Return the device and inode numbers, which identify a folder whatever path leads to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _fail(error: OSError) -> None:
    raise error


def samples_from_list(file: Path, folder: Path, classes: int, separator: str | None = None) -> Samples:
    """Return the images that a list names, one per line: a path below `folder`, a separator, and a label.

    file: the list. separator: a space if None. classes: labels must be below this number.
    Raises ValueError, naming the list and the line, for a line in another form, and FileNotFoundError, naming the list
    and the image, for the first image that does not exist.
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
    """Return the file at a path below `folder`. Raises ValueError if the path leads elsewhere.

    listed_in: the list that has the path, for the error.
    """
    if not path or "\0" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{listed_in} must name a path below {folder}, got {path[:80]!r}")
    return str(folder / path)


def check_there(files: Iterable[str], listed_in: str) -> None:
    """Raise FileNotFoundError, naming the list and the file, for the first file that does not exist."""
    # Each folder is listed only once, however many of the files are in it.
    held: dict[str, set[str]] = {}
    for file in files:
        folder, _, name = file.rpartition(os.sep)
        if folder not in held:
            held[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in held[folder]:
            raise FileNotFoundError(f"{listed_in} lists {file}, which does not exist")


def read_image(file: Path, storage: Storage = PLAIN) -> np.ndarray | bytes:
    """Return an image file as JPEG bytes if the loader can decode them, otherwise as pixels, uint8 (H, W, 3).

    Pixels are decoded by PIL, turned upright as the EXIF orientation says, and laid on the background where they are
    transparent. `loaders/IMAGES.md` lists how each kind of file is converted.
    storage: how the caller will make the image smaller, which is not done here.
    Raises ValueError, naming the file, if it cannot be read, cannot become 8-bit RGB, or its pixels do not fit into a
    page of a beton, which is checked before they are decoded.
    """
    try:
        content = bytes_of(file, IMAGE_BYTES)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    return as_stored(content, str(file), storage)


def as_stored(content: bytes, name: str, storage: Storage = PLAIN) -> np.ndarray | bytes:
    """Return the content of an image file in the form in which a beton stores it: JPEG bytes or pixels.

    name: what error messages call the image. Everything else is as in `read_image`.
    """
    IMAGE_BYTES.check(len(content), name)
    image = open_image(content, name)
    if image.mode not in MODES:
        raise ValueError(f"{name} has pixels of mode {image.mode}, which 8-bit RGB cannot hold")
    if image.format in ("JPEG", "MPO") and check_jpeg(content, name) and _turn(image) is None:
        return content
    width, height = smaller(image.size, storage.longest) if storage.longest else image.size
    if not storage.compress:
        check_fits(name, RAW, height, width, 3 * height * width)
    with naming(name):
        image.load()  # first, since the EXIF data may come after the pixels in the file
        turn = _turn(image)
        upright = image if turn is None else image.transpose(turn)
        if upright.has_transparency_data:
            return _flat(np.array(upright.convert("RGBA")), 255 if storage.background == "white" else 0)
        return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))  # converting RGB would copy it


def _flat(pixels: np.ndarray, background: int) -> np.ndarray:
    """Return RGBA pixels, uint8 (H, W, 4), laid on a gray background, uint8 (H, W, 3), rounded to the nearest level."""
    color, alpha = pixels[:, :, :3].astype(np.uint16), pixels[:, :, 3:].astype(np.uint16)
    return ((color * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the image upright by its EXIF data, or None if there is nothing to turn.

    Damaged EXIF data is ignored.
    """
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:
        return None
