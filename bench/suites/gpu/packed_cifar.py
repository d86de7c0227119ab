"""Pack CIFAR-10's files into little more than half their size, and restore them bit for bit.

torchvision accepts a file of CIFAR-10 only if it has the right checksum. So the pixels of each file are stored as a
lossless WebP, a mosaic of its images, and the bytes of the pickle before and after the pixels are stored unchanged.
"""

import hashlib
import json
import pickletools
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from twoview.bench.runtime import processes as own_process
from twoview.bench.runtime.cores import cpu_count
from twoview.loaders.files import whole_file

FOLDER = "cifar-10-batches-py"  # folder of CIFAR-10 in a data root
FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
COLUMNS = 100  # images in a row of the mosaic
SIDE = 32  # side of an image, in pixels
# WebP settings that take 2 seconds per file; Pillow's defaults take 7 seconds and save one percent.
METHOD, QUALITY = 1, 20


def pack(root: Path, names: Iterable[str], folder: Path) -> None:
    """For each file NAME of the root's CIFAR-10, write NAME.rest, NAME.json and, if it holds images, NAME.webp.

    The number of images in a file must be a multiple of 100.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _each(partial(_pack, root / FOLDER, folder), names)


def unpack(folder: Path, root: Path) -> list[str]:
    """Restore the files packed in `folder`, each atomically, and return all CIFAR-10 files of the root.

    A file that exists and is intact is left alone. Raises ValueError, naming the file, if a packed file is damaged.
    """
    _each(partial(_unpack, folder, root / FOLDER), sorted(path.stem for path in folder.glob("*.json")))
    return present(root)


def present(root: Path) -> list[str]:
    """Return which of CIFAR-10's files the data root has."""
    return [name for name in FILES if (root / FOLDER / name).is_file()]


def _each(work: partial[None], names: Iterable[str]) -> None:
    """Do the work for each name, with one process per core."""
    with ProcessPoolExecutor(cpu_count(), own_process.forks([__name__])) as processes:
        for _ in processes.map(work, names):
            pass


def _pack(source: Path, folder: Path, name: str) -> None:
    """Pack one file of the folder `source`."""
    content = (source / name).read_bytes()
    start, end = _pixels(content)
    if end > start:
        images = np.frombuffer(content[start:end], np.uint8).reshape(-1, COLUMNS, 3, SIDE, SIDE)
        mosaic = images.transpose(0, 3, 1, 4, 2).reshape(-1, COLUMNS * SIDE, 3)
        Image.fromarray(mosaic).save(folder / f"{name}.webp", lossless=True, method=METHOD, quality=QUALITY)
    (folder / f"{name}.rest").write_bytes(content[:start] + content[end:])
    about = {"pixels_at": start, "sha256": hashlib.sha256(content).hexdigest()}
    (folder / f"{name}.json").write_text(json.dumps(about))


def _pixels(content: bytes) -> tuple[int, int]:
    """Return where a file's pixels begin and end: the string of its pickle with a length of four bytes.

    Both are the end of the file if it has no images.
    """
    for opcode, value, position in pickletools.genops(content):
        if opcode.name == "BINSTRING":
            start = (position or 0) + 5
            return start, start + len(value or "")
    return len(content), len(content)


def _unpack(folder: Path, target: Path, name: str) -> None:
    """Restore one file in the folder `target`, unless it exists and is intact."""
    about = json.loads((folder / f"{name}.json").read_text())
    path = target / name
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"]:
        return
    rest, mosaic = folder / f"{name}.rest", folder / f"{name}.webp"
    pixels = _from_mosaic(mosaic) if mosaic.exists() else b""
    content, start = rest.read_bytes(), about["pixels_at"]
    content = content[:start] + pixels + content[start:]
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ValueError(f"{rest} or the .webp next to it is damaged: the {name} made from them has another checksum")
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def _from_mosaic(path: Path) -> bytes:
    """Return the pixels of a mosaic in CIFAR-10's order: image by image, channel by channel."""
    try:
        mosaic = np.asarray(Image.open(path).convert("RGB"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    images = mosaic.reshape(-1, SIDE, COLUMNS, SIDE, 3).transpose(0, 2, 4, 1, 3)
    return images.tobytes()


def main() -> None:
    """`python -m twoview.bench.suites.gpu.packed_cifar FOLDER ROOT`: restore FOLDER's files in the data root ROOT."""
    folder, root = map(Path, sys.argv[1:])
    try:
        files = unpack(folder, root)
    except (ValueError, OSError) as error:
        print(f"CIFAR-10: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"CIFAR-10: {len(files)} of its {len(FILES)} files are in {root / FOLDER}")


if __name__ == "__main__":
    main()
