"""Everything that `twoview suite gpu` needs on a machine without a network, in two parts, each with a script to start.

Part a runs the steps of `suite.FIRST`, part b all others; each brings half of CIFAR-10.
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

LIMIT = 60 * 2**20  # bytes of a part
HERE = Path(__file__).parent
UNUSED = ("optuna", "submitit")  # what the suite does not import: they search hyper-parameters and submit jobs
PEER = Requirement("lightly")  # goes without what it requires: the parts that the suite imports need nothing more


@dataclass(frozen=True)
class Part:
    """minutes: by default. only: the steps to run; none: all. cifar10: which files of it are brought."""

    name: str
    minutes: int
    only: Sequence[str]
    cifar10: Sequence[str]


PARTS = (Part("a", 6, FIRST, packed_cifar.FILES[:3]), Part("b", 5, (), packed_cifar.FILES[3:]))


def write(folder: Path, root: Path | None, node: Path | None = None) -> None:
    """Makes `folder`/a and `folder`/b, whole or not at all, in the place of an earlier bundle, and says what they hold.

    root: the data root, whose CIFAR-10 is packed where it has one. node: a list of what the machine has, see
    `wheels.read_node`; by default that of the one known machine, `node.txt`.
    ValueError for a tree that is no git checkout, a wheel that cannot be had, or a part of more than 60 MiB;
    FileExistsError where `folder` has an a or b that is no bundle.
    """
    for part in PARTS:
        if (folder / part.name).exists() and not _is_a_bundle(folder / part.name):
            raise FileExistsError(f"{folder / part.name} is there and is no earlier bundle: name another folder")
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
    print(f"CIFAR-10 {'in halves' if brought else f'is not in the data root, {root}, and so not in the bundle'}")
    for part in PARTS:
        made = folder / part.name
        sizes = ", ".join(f"{path.name} {_size(path) / 2**20:.1f}" for path in sorted(made.iterdir()))
        print(f"{made}: {_size(made) / 2**20:.1f} MiB ({sizes}): bash {made / 'run.sh'} [MINUTES]")


def _tree(root: Path, path: Path) -> None:
    """Packs the files of a git checkout that git does not ignore, and the commit. Their times are kept."""
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
    if not (root / ".git").exists():
        raise ValueError(f"a bundle is made from a git checkout of twoview, and {root} is none")
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in sorted({*names} - {""}) if (root / name).exists()]


def _wheels(node: wheels.Node, folder: Path) -> None:
    folder.mkdir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [one for one in map(Requirement, project["dependencies"]) if one.name not in UNUSED]
    lock = ROOT / "requirements.lock"
    wheels.gather(ours, node, folder, lock)
    if not node.has(PEER):
        wheels.download(PEER, node, folder, lock)


def _turbojpeg() -> Path:
    """The file that the loader's library was loaded from."""
    from twoview.loaders import decode  # here, for it loads the library

    assert decode
    maps = Path("/proc/self/maps").read_text().splitlines()
    return next(Path(line.split(maxsplit=5)[5]) for line in maps if "/libturbojpeg.so" in line)


def _is_a_bundle(folder: Path) -> bool:
    """Whether all in it is what a bundle has, so that nothing of the user's is lost with it."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return names <= {"run.sh", "twoview.tar.gz", "wheels", "lib", "cifar10"}


def _script(part: Part, python: str, path: Path) -> None:
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
    """Packs the root's CIFAR-10, if it has one, whose checksums must be the published ones."""
    if root is None or not packed_cifar.present(root):
        return False
    for split in ("train", "test"):
        datasets.dataset("cifar10").read(root, split)
    for part in PARTS:
        packed_cifar.pack(root, part.cifar10, scratch / part.name / "cifar10")
    return True


def _check_size(made: Path, path: Path) -> None:
    if (size := _size(made)) > LIMIT:
        largest = sorted(_files(made), key=_size, reverse=True)[:3]
        words = ", ".join(f"{one.relative_to(made)} {_size(one) / 2**20:.1f} MiB" for one in largest)
        raise ValueError(
            f"{path} must be at most {LIMIT / 2**20:g} MiB, not {size / 2**20:.1f}; its largest files are {words}"
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _size(path: Path) -> int:
    """Bytes of a file, or of all that a folder holds."""
    return path.stat().st_size if path.is_file() else sum(map(_size, path.iterdir()))
