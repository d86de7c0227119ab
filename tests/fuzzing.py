"""Coverage-guided fuzzing of everything that reads files from others.

    python -m tests.fuzzing TARGET CORPUS [libFuzzer's options]

A finding is anything but a result or an error of one sentence that names the file: another exception, a crash, a hang
of 30 seconds, more than 1 GiB of memory above that at the start, a file written elsewhere. atheris follows the branches
of the Python code; inputs that reach new branches are kept in the folder CORPUS, findings as `crash-*` in the current
folder. Useful options: `-max_total_time=3600`, and `-runs=0` to try the inputs in the folder once.

An input is the file itself. For records, recipes and checkpoints it may also be a JSON document of the file's content:
mutated bytes seldom pass checksums and grammar, so in a document the values are mutated.
"""

import copy
import io
import json
import math
import os
import random
import re
import resource
import struct
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import atheris
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
# Numba cannot compile functions that atheris has instrumented.
KERNELS = [
    ".".join(("twoview", *path.relative_to(ROOT).with_suffix("").parts))
    for folder in ("loaders", "methods")
    for path in (ROOT / folder).rglob("*.py")
    if "@kernel" in path.read_text()
]
with atheris.instrument_imports(include=["twoview"], exclude=KERNELS):
    from twoview.bench import evidence
    from twoview.bench.config import experiment, recipe
    from twoview.bench.config.experiment import Place
    from twoview.bench.data import conversion, inspection
    from twoview.bench.evidence import trained
    from twoview.bench.training import train
    from twoview.loaders import arrays, beton
    from twoview.loaders.datasets import archives, samples
    from twoview.loaders.loader import Loader
    from twoview.loaders.views import View
    from twoview.methods import checkpoint
    from twoview.methods.trainer import Trainer
    from twoview.reports.report import write_report

RESULTS = ROOT / "reports" / "results"
LINE = 2000  # the most characters of an error
LIMITS = ["-timeout=30", "-max_len=65536", "-len_control=0"]
MEMORY_MIB = 1024  # the most that inputs may take
ODD = [
    *(0, 1, -1, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**30, 0.0, -0.5, 1e-24, 1e300, math.nan, math.inf, -math.inf),
    *("", "x", "8", "../x", "/", "a\nb", "\x1b]0;x\x07", "=1+1", "<b>", "$\\frac{", "\u202e", "A" * 200, "\ud800"),
    *(None, True, False, [], {}, [[]], [1.0], [math.nan], {"": 0}, {"name": "x"}, [[1, 2], [3]]),
]


def images() -> list[bytes]:
    """A JPEG, a PNG and a WebP of 16 x 16 pixels."""
    image, made = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)), []
    for kind in ("JPEG", "PNG", "WEBP"):
        image.save(buffer := io.BytesIO(), kind)
        made.append(buffer.getvalue())
    return made


def beton_seeds(folder: Path) -> None:
    """A sealed file, and the same without the seal, as stock FFCV writes it: nothing protects its headers."""
    jpeg = images()[0]
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
    inspection.describe(file)
    with Loader(file, (View(size=8),), min(len(file), 4), threads=1, on_error="skip") as loader:
        for number, _ in enumerate(loader.epoch(0)):
            if number == 2:
                break


def arrays_seeds(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays.write_arrays(folder / "sealed", {"x": rng.normal(size=(3, 2, 2)), "y": rng.integers(0, 9, (3, 1))})
    whole = bytearray((folder / "sealed").read_bytes())
    at = whole.index(arrays.MAGIC)
    whole[at : at + arrays.SEAL.itemsize] = bytes(arrays.SEAL.itemsize)
    (folder / "stock").write_bytes(whole)


def record_seeds(folder: Path) -> None:
    """The smallest committed record of every kind, and its content as schema version 1, which has no seal."""
    kinds: dict[str, evidence.AnyRecord] = {}
    for path in sorted(RESULTS.rglob("*.json"), key=lambda path: path.stat().st_size):
        one = evidence.read(path)
        kinds.setdefault(one.kind, one.model_copy(update={"name": "file"}))
    for kind, one in kinds.items():
        evidence.write(one, folder).rename(folder / kind)
        values = json.loads((folder / kind).read_bytes()) | {"schema_version": 1}
        del values["sha256"]
        (folder / f"{kind}-values").write_text(json.dumps(values))


def try_record(path: Path) -> None:
    one = evidence.read(path)
    evidence.load(path.parent)
    out = path.parent / "report"
    write_report(path.parent, out)
    for written in out.iterdir():
        if written.suffix in (".html", ".md", ".csv"):
            assert "\x1b" not in written.read_text(), f"{one.name} takes over the terminal"


def recipe_seeds(folder: Path) -> None:
    for path in recipe.all_files()[::10]:
        (folder / path.name).write_bytes(path.read_bytes())
        (folder / f"{path.name}-values").write_text(json.dumps(recipe.load(path.stem).model_dump(mode="json")))


def try_recipe(path: Path) -> None:
    values = document(path.read_bytes())
    one = recipe.load(str(path)) if values is None else recipe.parse(values, str(path))
    recipe.parse(one.model_dump(mode="json"), str(path))


def checkpoint_seeds(folder: Path) -> None:
    """The checkpoint of a run of one step, and its content."""
    one = recipe.load("quick-fashion-mnist")
    small = one.probe.model_copy(update={"train_images": 20, "test_images": 20})
    changes = {"epochs": 1, "train_images": 64, "batch": 64, "probe": small, "loader_threads": 1}
    optim = one.optim.model_copy(update={"warmup_epochs": 0})
    path = folder / "file"
    with tempfile.TemporaryDirectory() as made:
        place = Place(Path(made) / "betons", Path(made) / "checkpoints", None)
        trained = train.train(one.model_copy(update=changes | {"optim": optim}), place, resume=False, device="cpu")
        path.write_bytes(trained.read_bytes())
    (folder / "values").write_text(json.dumps(written(checkpoint.load(path))))


def written(value: Any) -> Any:
    """A value as JSON. Tensors become their dtype and shape, tensors of bytes their content."""
    if isinstance(value, torch.Tensor) and value.dtype == torch.uint8:
        return {"bytes": value.numpy().tobytes().hex()}
    if isinstance(value, torch.Tensor):
        return {"tensor": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
    if isinstance(value, tuple):
        return {"tuple": [written(one) for one in value]}
    if isinstance(value, dict):
        return {f"number {key}" if isinstance(key, int) else key: written(one) for key, one in value.items()}
    return [written(one) for one in value] if isinstance(value, list) else value


def held(value: Any) -> Any:
    """The inverse of `written`; tensors hold zeros, at most a million."""
    if isinstance(value, dict):
        dtype, shape = getattr(torch, str(value.get("tensor")), None), value.get("shape")
        if isinstance(dtype, torch.dtype) and isinstance(shape, list) and all(type(one) is int for one in shape):
            small = all(0 <= one <= 2**20 for one in shape) and math.prod(shape) <= 2**20
            return torch.zeros(shape, dtype=dtype) if small else torch.zeros(1, dtype=dtype).expand(2**20)
        if isinstance(value.get("bytes"), str) and re.fullmatch("([0-9a-f]{2})+", value["bytes"]):
            return torch.frombuffer(bytearray.fromhex(value["bytes"]), dtype=torch.uint8)
        if isinstance(value.get("tuple"), list):
            return tuple(map(held, value["tuple"]))
        names = {key: int(key[7:]) if key.startswith("number ") and key[7:].isdecimal() else key for key in value}
        return {names[key]: held(one) for key, one in value.items()}
    return [held(one) for one in value] if isinstance(value, list) else value


def try_checkpoint(path: Path) -> None:
    """As `probe` and `train --resume` read it."""
    values = document(path.read_bytes())
    if values is not None:
        torch.save(held(values), path)
    state = checkpoint.load(path)
    one = recipe.parse(state["recipe"], str(path))
    method = experiment.trained_method(one, state["method"], path)
    if state.get("history"):
        trainer = Trainer(
            method,
            one.optim,
            epochs=one.epochs,
            normalize=experiment.normalize_for(one),
            device=torch.device("cpu"),
            precision="fp32",
        )
        experiment.take_up(trainer, state, path)
    trained.measured(path, state)


def archive_seeds(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as opened:
        for name, kind in (("f", tarfile.DIRTYPE), ("f/a.jpg", tarfile.REGTYPE), ("f/b.jpg", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "a.jpg", 4 if kind == tarfile.REGTYPE else 0
            opened.addfile(member, io.BytesIO(b"abcd"))
    with zipfile.ZipFile(folder / "a.zip", "w") as opened_zip:
        opened_zip.writestr("f/a.jpg", b"abcd")
        opened_zip.writestr("f/b.jpg", b"a" * 1000, zipfile.ZIP_DEFLATED)


def try_archive(path: Path) -> None:
    neighbor = path.parent / "neighbor"
    neighbor.write_text("mine")
    try:
        archives.unpack(path, path.parent / "out" / "in")
    finally:
        assert neighbor.read_text() == "mine"
        assert {one.name for one in path.parent.iterdir()} <= {path.name, "neighbor", "out"}
        assert not (path.parent / "out").exists() or os.listdir(path.parent / "out") in ([], ["in"])


def tree_seeds(folder: Path) -> None:
    entries = [{"folder": one, "name": f"{number}.jpg", "file": number} for one in "ab" for number in range(3)]
    (folder / "classes").write_text(json.dumps({"entries": entries}))
    odd = [{"folder": "b", "name": "again", "link": "../a"}, {"name": "pipe.jpg", "pipe": 1}]
    (folder / "odd").write_text(json.dumps({"entries": entries + odd}))


def try_tree(path: Path) -> None:
    """The input is a list of entries: a file of some content, a link to somewhere, a folder or a pipe."""
    folder = path.parent / "tree"
    folder.mkdir()
    contents = [*images(), b"", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    entries = (document(path.read_bytes()) or {}).get("entries")
    for entry in entries[:12] if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        # The command line escapes control characters in names, but libFuzzer's log does not.
        parts = f"{entry.get('folder', '')}/{entry.get('name', 'x')}".encode("utf-8", "replace").split(b"/")
        names = [bytes(one if one >= 32 else ord("_") for one in part) for part in parts if part not in (b"", b"..")]
        place = os.path.join(os.fsencode(folder), *names)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            if "link" in entry:
                os.symlink(str(entry["link"]), place)
            elif "pipe" in entry:
                os.mkfifo(place)
            elif type(entry.get("file")) is int:
                with open(place, "xb") as file:  # not into an existing pipe
                    file.write(contents[entry["file"] % len(contents)])
            else:
                os.mkdir(place)
        except (OSError, ValueError):
            continue  # a name that is taken, or that this system does not allow
    found = samples.image_folder(folder)
    beton_path = path.parent / "out"
    conversion.convert(found, beton_path, "tree", 1, {})
    inspection.verify(beton.open_beton(beton_path), 1)


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


def document(content: bytes) -> dict[str, Any] | None:
    """The JSON object that an input is, if it is one."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every table or list within, with each of its keys."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def changed(content: bytes, most: int, seed: int) -> bytes:
    """Mutate an input: its bytes, by libFuzzer, or usually some values of a JSON object, which are replaced by odd
    values or by other values of the object, removed, or moved to another key.
    """
    values, draw = document(content), random.Random(seed)
    if values is None or draw.random() < 0.1:
        return bytes(atheris.Mutate(content, most))
    for _ in range(draw.randint(1, 3)):
        table, key = draw.choice([*places(values)] or [(values, "name")])
        what = draw.choice(("odd", "odd", "other", "gone", "moved"))
        if what == "odd":
            table[key] = copy.deepcopy(draw.choice(ODD))
        elif what == "other":
            other, its = draw.choice([*places(values)] or [(table, key)])
            table[key] = copy.deepcopy(other.get(its) if isinstance(other, dict) else other[its])
        elif what == "gone":
            table.pop(key, None) if isinstance(table, dict) else table.pop(key)
        elif isinstance(table, dict):
            table[str(draw.choice([*table, *map(str, ODD)]))] = table.pop(key, None)
    made = json.dumps(values).encode()
    return made if len(made) <= most else content


def tried(target: str, content: bytes, folder: str) -> None:
    _, attempt, name = TARGETS[target]
    path = Path(folder) / name
    path.write_bytes(content)
    attempt(path)


def once(target: str, content: bytes) -> None:
    """Try an input, and raise only for a finding."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            tried(target, content, folder)
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
        for seed in folder.iterdir():  # a seed that is refused would leave most of the code untested
            with tempfile.TemporaryDirectory() as room:
                tried(target, seed.read_bytes(), room)
    # libFuzzer checks the peak, which on Linux includes the peak of the process that started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    words = [sys.argv[0], str(folder), *LIMITS, f"-rss_limit_mb={peak + MEMORY_MIB}", *options]
    atheris.Setup(words, lambda data: once(target, data), custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
