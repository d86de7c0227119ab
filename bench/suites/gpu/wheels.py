"""Find the wheels that a machine without a network lacks, and download them here for its Python."""

import importlib.metadata
import platform
import subprocess
import sys
import zipfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
PYTHON = "3.12"  # used if the list of packages has no line python==...


@dataclass(frozen=True)
class Node:
    """The packages of a machine. python: version of its Python. packages: name -> version, None if it is not known."""

    python: str
    packages: dict[str, str | None]

    def has(self, wanted: Requirement) -> bool:
        """Return whether a requirement is met. A package whose version is not known is assumed to meet it."""
        name = canonicalize_name(wanted.name)
        version = self.packages.get(name)
        return name in self.packages and (version is None or wanted.specifier.contains(version, prereleases=True))

    def needs(self, wheel: Path, extras: Collection[str]) -> Iterator[Requirement]:
        """Yield the requirements of the wheel, with these extras, on this machine."""
        python = {"python_version": ".".join(self.python.split(".")[:2]), "python_full_version": self.python}
        for one in map(Requirement, _metadata(wheel).requires or ()):
            if one.marker is None or any(one.marker.evaluate({**python, "extra": extra}) for extra in ("", *extras)):
                yield one


def read_node(path: Path) -> Node:
    """Read a list of packages as `pip freeze --all` prints it: NAME==VERSION, NAME or NAME @ ADDRESS per line.

    A line python==VERSION gives the version of Python. Raises ValueError, naming the line, if it has another form.
    """
    packages: dict[str, str | None] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            one = Requirement(text)
        except InvalidRequirement:
            raise ValueError(f"{path}, line {number}, must be NAME==VERSION or NAME, got {line!r}") from None
        pinned = [clause.version for clause in one.specifier if clause.operator == "=="]
        packages[canonicalize_name(one.name)] = pinned[0] if pinned else None
    return Node(packages.pop("python", None) or PYTHON, packages)


def gather(wanted: Iterable[Requirement], node: Node, folder: Path, lock: Path) -> list[Path]:
    """Download the wheels that the node lacks for these requirements and their dependencies, and return their paths.

    lock: pip's constraint file with the versions to take. Raises ValueError if a requirement cannot be downloaded, or
    is not met by the wheel that was downloaded for another one.
    """
    wheels: dict[str, Path] = {}
    todo, seen = list(wanted), set()
    while todo:
        one = todo.pop(0)
        name = canonicalize_name(one.name)
        if str(one) in seen or node.has(one):
            continue
        seen.add(str(one))
        if name not in wheels:
            wheels[name] = download(one, node, folder, lock)
        elif not one.specifier.contains(version := _metadata(wheels[name]).version, prereleases=True):
            raise ValueError(f"{name} {version} meets one requirement but not another, {one}")
        todo += node.needs(wheels[name], one.extras)
    return list(wheels.values())


def download(one: Requirement, node: Node, folder: Path, lock: Path) -> Path:
    """Download the wheel of one requirement, without its dependencies, for the node's Python on this architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as fresh:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={node.python}"]
        command += [f"--platform={system}_{platform.machine()}" for system in PLATFORMS]
        command += ["--constraint", str(lock), "--dest", fresh, f"{one.name}{one.specifier}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            reason = (errors or [done.stderr.strip()])[0].removeprefix("ERROR: ")
            if "connection" in done.stderr.lower():
                reason = "the package index cannot be reached"
            raise ValueError(f"{one} cannot be downloaded as a wheel for Python {node.python}: {reason}")
        [wheel] = Path(fresh).iterdir()
        return wheel.rename(folder / wheel.name)


def _metadata(wheel: Path) -> importlib.metadata.Distribution:
    [about] = (entry for entry in zipfile.Path(wheel).iterdir() if entry.name.endswith(".dist-info"))
    return importlib.metadata.PathDistribution(about)
