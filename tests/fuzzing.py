"""Coverage-guided fuzzing of everything that reads others' files.

    python -m tests.fuzzing TARGET CORPUS [libFuzzer's options]

A finding is what is neither an answer nor one sentence that names the file: another exception, a crash, a hang of 30
seconds, 2 GiB of memory, a file written elsewhere. atheris follows the branches of the Python code; inputs that reach
new ones are kept in the folder CORPUS, a finding as `crash-*` in the current folder. Options that matter:
`-max_total_time=3600`, and `-runs=0` to try what is in the folder once.
"""

import io
import os
import struct
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
# Numba compiles no function that atheris has put its counters into.
KERNELS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("loaders", "methods")
    for path in (ROOT / folder).rglob("*.py")
    if "@kernel" in path.read_text()
]
with atheris.instrument_imports(include=["bench", "loaders", "methods"], exclude=KERNELS):
    from bench import betons, evidence, recipe
    from loaders import arrays, beton
    from loaders.datasets import archives, samples
    from loaders.loader import Loader
    from loaders.views import View
    from methods import checkpoint

RESULTS = ROOT / "reports" / "results"
LINE = 2000  # characters that a sentence may have
LIMITS = ["-timeout=30", "-rss_limit_mb=2048", "-max_len=65536"]


def pictures() -> list[bytes]:
    """A JPEG, a PNG and a WebP of 16 pixels a side."""
    image, made = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)), []
    for kind in ("JPEG", "PNG", "WEBP"):
        image.save(buffer := io.BytesIO(), kind)
        made.append(buffer.getvalue())
    return made


def beton_seeds(folder: Path) -> None:
    """A sealed file, and the same without the seal, as stock FFCV writes it: nothing shields its headers."""
    jpeg = pictures()[0]
    pixels = np.zeros((16, 16, 3), np.uint8).tobytes()

    def stored(index: int) -> beton.Stored:
        return beton.Stored(*((beton.JPEG, 16, 16, jpeg) if index % 2 else (beton.RAW, 16, 16, pixels)), index)

    for _ in beton.write(folder / "sealed", 4, stored):
        pass
    whole = (folder / "sealed").read_bytes()
    fields, _, count, table = struct.unpack_from("<HIQQ", whole, 2)
    (folder / "stock").write_bytes(whole[: table + count * beton.ALLOCATION.itemsize])
    assert fields == 2


def try_beton(path: Path) -> None:
    file = beton.open_beton(path)
    betons.describe(file)
    with Loader(file, (View(size=8),), min(len(file), 4), threads=1, on_error="skip") as loader:
        for number, _ in enumerate(loader.epoch(0)):
            if number == 2:
                break


def arrays_seeds(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays.write_arrays(folder / "sealed", {"x": rng.normal(size=(3, 2, 2)), "y": rng.integers(0, 9, (3, 1))})
    whole = bytearray((folder / "sealed").read_bytes())
    at = whole.index(arrays.MAGIC)
    whole[at : at + len(arrays.MAGIC)] = bytes(len(arrays.MAGIC))
    (folder / "stock").write_bytes(whole)


def record_seeds(folder: Path) -> None:
    """The smallest committed record of every kind."""
    kinds: dict[str, Path] = {}
    for path in sorted(RESULTS.rglob("*.json"), key=lambda path: path.stat().st_size):
        kinds.setdefault(evidence.read(path).kind, path)
    for kind, path in kinds.items():
        (folder / kind).write_bytes(path.read_bytes())


def try_record(path: Path) -> None:
    evidence.read(path)
    evidence.load(path.parent)


def recipe_seeds(folder: Path) -> None:
    for path in recipe.all_files()[::10]:
        (folder / path.name).write_bytes(path.read_bytes())


def try_recipe(path: Path) -> None:
    one = recipe.load(str(path))
    recipe.parse(one.model_dump(mode="json"), str(path))


def checkpoint_seeds(folder: Path) -> None:
    one = recipe.load("quick-fashion-mnist")
    state = {"recipe": one.model_dump(mode="json"), "epoch": 1, "method": {"w": torch.zeros(3)}}
    checkpoint.save(folder / "one", state)


def try_checkpoint(path: Path) -> None:
    checkpoint.load(path)


def archive_seeds(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as opened:
        for name, kind in (("f/a.jpg", tarfile.REGTYPE), ("f/link", tarfile.SYMTYPE), ("f/hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "a.jpg", 4 if kind == tarfile.REGTYPE else 0
            opened.addfile(member, io.BytesIO(b"abcd"))
    with zipfile.ZipFile(folder / "a.zip", "w") as opened_zip:
        opened_zip.writestr("f/a.jpg", b"abcd")
        opened_zip.writestr("f/b.jpg", b"a" * 1000, zipfile.ZIP_DEFLATED)


def try_archive(path: Path) -> None:
    beside = path.parent / "beside"
    beside.write_text("mine")
    try:
        archives.unpack(path, path.parent / "out" / "in")
    finally:
        assert beside.read_text() == "mine"
        assert {one.name for one in path.parent.iterdir()} <= {path.name, "beside", "out"}
        assert not (path.parent / "out").exists() or os.listdir(path.parent / "out") in ([], ["in"])


def tree_seeds(folder: Path) -> None:
    (folder / "two-classes").write_bytes(b"\x00\x01a\x01\x02b/1\x00" * 6)


def try_tree(path: Path) -> None:
    """The bytes are read as a list of entries: what it is, its name, what it holds or points to."""
    data, folder = atheris.FuzzedDataProvider(path.read_bytes()), path.parent / "tree"
    folder.mkdir()
    contents = [*pictures(), b"", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    for _ in range(data.ConsumeIntInRange(0, 12)):
        kind = data.ConsumeIntInRange(0, 5)
        name = data.ConsumeBytes(data.ConsumeIntInRange(1, 12)).strip(b"/")
        name = bytes(one if one >= 32 else ord("_") for one in name) or b"_"  # the command line escapes what a name has
        if b".." in name.split(b"/"):
            continue
        place = os.path.join(os.fsencode(folder), [b"", b"a", b"b", b"a/c"][data.ConsumeIntInRange(0, 3)], name)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            if kind == 0:
                os.makedirs(place, exist_ok=True)
            elif kind == 1:
                os.symlink([b".", b"..", b"../a", b"x", b"/dev/null"][data.ConsumeIntInRange(0, 4)], place)
            elif kind == 2:
                os.mkfifo(place)
            else:
                place += [b".jpg", b".png", b".JPEG", b""][data.ConsumeIntInRange(0, 3)]
                with open(place, "xb") as file:  # not into a pipe that is there
                    file.write(contents[data.ConsumeIntInRange(0, len(contents) - 1)])
        except OSError:
            continue  # a name that is taken, or none that this system knows
    found = samples.image_folder(folder)
    beton_path = path.parent / "out"
    betons.convert(found, beton_path, "tree", 1, {})
    betons.verify(beton.open_beton(beton_path), 1)


Seeds, Try = Callable[[Path], None], Callable[[Path], object]
TARGETS: dict[str, tuple[Seeds, Try, str]] = {
    "beton": (beton_seeds, try_beton, "file.beton"),
    "arrays": (arrays_seeds, arrays.read_arrays, "file.beton"),
    "record": (record_seeds, try_record, "file.json"),
    "recipe": (recipe_seeds, try_recipe, "file.toml"),
    "checkpoint": (checkpoint_seeds, try_checkpoint, "file.pt"),
    "archive": (archive_seeds, try_archive, "file.tar"),
    "tree": (tree_seeds, try_tree, "file"),
}


def once(target: str, content: bytes) -> None:
    """Raises for a finding alone."""
    _, attempt, name = TARGETS[target]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            attempt(path)
        except (ValueError, OSError) as error:
            said = str(error)
            assert folder in said, f"a sentence must name the file: {said!r}"
            assert len(said) <= LINE and "\n" not in said, f"it must be one sentence: {said!r}"


def main() -> None:
    target, corpus, *options = sys.argv[1:]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        TARGETS[target][0](folder)
    atheris.Setup([sys.argv[0], str(folder), *LIMITS, *options], lambda data: once(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
