"""Bundle everything that `twoview suite gpu` needs on a machine without a network: two parts, each with a start script.

Part a runs the steps of `suite.FIRST`, part b all others; each includes half of CIFAR-10.
"""

import io
import json
import shutil
import subprocess
import tarfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

from twoview.bench.measurement.environment import COMMIT, ROOT, commit_of
from twoview.bench.suites.gpu import packed_cifar, wheels
from twoview.bench.suites.gpu.suite import FIRST
from twoview.loaders import datasets

LIMIT = 60 * 2**20  # largest size of a part, in bytes
HERE = Path(__file__).parent
UNUSED = ("optuna", "submitit")  # not imported by the suite: hyper-parameter search and job submission
PEER = Requirement("lightly")  # without its dependencies, which the imported modules do not need


@dataclass(frozen=True)
class Part:
    """One part of the bundle.

    minutes: the suite's time limit unless another one is given. only: names of the steps to run; empty for all.
    cifar10: names of CIFAR-10's files in the part.
    """

    name: str
    minutes: int
    only: Sequence[str]
    cifar10: Sequence[str]


PARTS = (Part("a", 6, FIRST, packed_cifar.FILES[:3]), Part("b", 5, (), packed_cifar.FILES[3:]))


def write(folder: Path, root: Path | None, node: Path | None = None) -> None:
    """Make `folder`/a and `folder`/b atomically, replacing an earlier bundle, and print their contents.

    root: the data root; its CIFAR-10 is packed if it has one. node: list of the packages that the target machine has,
    see `wheels.read_node`; by default `node.txt`, the list of the one known machine.
    Raises ValueError if this code is not in a git checkout, a wheel cannot be downloaded, or a part exceeds 60 MiB, and
    FileExistsError if `folder` has an a or b that is not a bundle.
    """
    for part in PARTS:
        if (folder / part.name).exists() and not _is_a_bundle(folder / part.name):
            raise FileExistsError(f"{folder / part.name} exists and is not an earlier bundle: use another folder")
    lacking = wheels.read_node(node or HERE / "node.txt")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        common = Path(scratch, "common")
        common.mkdir()
        _tree(ROOT, common / "twoview.tar.gz")
        _wheels(lacking, common / "wheels")
        (common / "lib").mkdir()
        shutil.copyfile(_turbojpeg(), common / "lib" / "libturbojpeg.so.0")
        for part in PARTS:
            made = Path(scratch, part.name)
            shutil.copytree(common, made)
            _script(part, lacking.python, made / "run.sh")
        brought = _cifar10(Path(scratch), root)
        for part in PARTS:
            _check_size(Path(scratch, part.name), folder / part.name)
        folder.mkdir(exist_ok=True)
        for part in PARTS:
            if (folder / part.name).exists():
                (folder / part.name).rename(Path(scratch, f"{part.name}-earlier"))
            Path(scratch, part.name).rename(folder / part.name)
    commit, dirty = commit_of(ROOT)
    print(f"commit {commit}{', with changes that are not committed' if dirty else ''}")
    print(
        f"wheels {', '.join(sorted('-'.join(wheel.name.split('-')[:2]) for wheel in _files(folder / 'a' / 'wheels')))}"
    )
    halves = "is included, half in each part" if brought else f"is not included: the data root, {root}, lacks it"
    print(f"CIFAR-10 {halves}")
    for part in PARTS:
        made = folder / part.name
        sizes = ", ".join(f"{path.name} {_size(path) / 2**20:.1f}" for path in sorted(made.iterdir()))
        print(f"{made}: {_size(made) / 2**20:.1f} MiB ({sizes}); start: bash {made / 'run.sh'} [MINUTES]")


def _tree(root: Path, path: Path) -> None:
    """Pack the files of a git checkout that git does not ignore, and the commit. Modification times are kept."""
    names = _git_files(root)
    commit, dirty = commit_of(root)
    about = json.dumps({"commit": commit, "dirty": dirty}).encode()
    entry = tarfile.TarInfo(f"twoview/{COMMIT}")
    entry.size, entry.mtime = len(about), int(time.time())
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(entry, io.BytesIO(about))
        for name in names:
            archive.add(root / name, f"twoview/{name}")


def _git_files(root: Path) -> list[str]:
    """Return the paths of existing files that git tracks or does not ignore.

    Raises ValueError if root is not a git checkout.
    """
    if not (root / ".git").exists():
        raise ValueError(f"a bundle is made from a git checkout of twoview, and {root} is not one")
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in sorted({*names} - {""}) if (root / name).exists()]


def _wheels(node: wheels.Node, folder: Path) -> None:
    """Download the wheels that the node lacks, and lightly's."""
    folder.mkdir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [one for one in map(Requirement, project["dependencies"]) if one.name not in UNUSED]
    lock = ROOT / "requirements.lock"
    wheels.gather(ours, node, folder, lock)
    if not node.has(PEER):
        wheels.download(PEER, node, folder, lock)


def _turbojpeg() -> Path:
    """Return the file from which the loader's libturbojpeg was loaded."""
    from twoview.loaders import decode  # imported here, because it loads the library

    assert decode
    maps = Path("/proc/self/maps").read_text().splitlines()
    return next(Path(line.split(maxsplit=5)[5]) for line in maps if "/libturbojpeg.so" in line)


def _is_a_bundle(folder: Path) -> bool:
    """Return whether the folder holds only files of a bundle, so that removing it deletes none of the user's files."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return names <= {"run.sh", "twoview.tar.gz", "wheels", "lib", "cifar10"}


def _script(part: Part, python: str, path: Path) -> None:
    """Write the start script of a part: run.sh with its placeholders filled in."""
    text = (HERE / "run.sh").read_text()
    only = f"--only {','.join(part.only)} " if part.only else ""
    for word, value in (
        ("@part@", part.name),
        ("@minutes@", str(part.minutes)),
        ("@only@", only),
        ("@python@", ".".join(python.split(".")[:2])),
    ):
        text = text.replace(word, value)
    path.write_text(text)


def _cifar10(scratch: Path, root: Path | None) -> bool:
    """Pack the CIFAR-10 of the data root, and return whether the root has it.

    Raises ValueError if its checksums differ from the published ones.
    """
    if root is None or not packed_cifar.present(root):
        return False
    for split in ("train", "test"):
        datasets.dataset("cifar10").read(root, split)
    for part in PARTS:
        packed_cifar.pack(root, part.cifar10, scratch / part.name / "cifar10")
    return True


def _check_size(made: Path, path: Path) -> None:
    """Raise ValueError if the part is too large. made: where it is now. path: where it will be, for the message."""
    if (size := _size(made)) > LIMIT:
        largest = sorted(_files(made), key=_size, reverse=True)[:3]
        words = ", ".join(f"{one.relative_to(made)} {_size(one) / 2**20:.1f} MiB" for one in largest)
        raise ValueError(
            f"{path} must be at most {LIMIT / 2**20:g} MiB, got {size / 2**20:.1f}; its largest files are {words}"
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _size(path: Path) -> int:
    """Return the size in bytes of a file, or of everything in a folder."""
    return path.stat().st_size if path.is_file() else sum(map(_size, path.iterdir()))
