"""Archives: downloaded, checked, and unpacked whole or not at all."""

import os
import shutil
import socket
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError)


@dataclass(frozen=True)
class Archive:
    """url: of a .tar, .tar.gz, .tgz or .zip. md5: of the file; None where its publisher names none.

    holds: the folder or file in it that is wanted.
    """

    url: str
    md5: str | None
    holds: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def obtain(archive: Archive, folder: Path) -> None:
    """Makes folder / archive.holds, unless it is there: from the archive in `folder`, or else from its url.

    FileNotFoundError if the download fails; ValueError for a checksum that differs, a damaged archive, or one with a
    path that leads out of it. What is wanted appears whole or not at all; an archive that was in `folder` stays.
    """
    target = folder / archive.holds
    if target.exists():
        return
    with scratch_folder(folder, archive.name) as scratch:
        file = folder / archive.name
        if not file.is_file():
            file = _download(archive.url, scratch)
        check(file, archive.md5)
        unpack(file, scratch / "unpacked")
        if not (scratch / "unpacked" / archive.holds).exists():
            raise ValueError(f"{file} holds no {archive.holds}")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(scratch / "unpacked" / archive.holds, target)


def check(file: Path, md5: str | None) -> None:
    """ValueError, naming file and both checksums, if the file's is another."""
    from torchvision.datasets.utils import calculate_md5

    if md5 and (found := calculate_md5(file)) != md5:
        raise ValueError(f"the MD5 checksum of {file.name} is {found}, not {md5}: it is damaged, or another version")


def unpack(file: Path, folder: Path) -> None:
    """Unpacks a tar or zip file. ValueError, naming it, if it is damaged or a path in it leads out of `folder`."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as opened:
                for name in opened.namelist():
                    path = PurePosixPath(name.replace("\\", "/"))
                    if path.is_absolute() or ".." in path.parts:
                        raise ValueError(f"{file} holds the path {name!r}, which leads out of it: nothing is unpacked")
                opened.extractall(folder)
        else:
            with tarfile.open(file) as opened:
                opened.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise ValueError(f"{file} holds a path that leads out of it: nothing is unpacked: {error}") from None
    except DAMAGE as error:
        raise ValueError(f"{file} cannot be unpacked: {error}") from None


def _download(url: str, folder: Path) -> Path:
    from torchvision.datasets.utils import download_url

    try:
        download_url(url, folder)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"downloading {url} failed: {error}") from None
    return folder / url.rpartition("/")[2]


@contextmanager
def scratch_folder(folder: Path, name: str) -> Iterator[Path]:
    """A folder in `folder` that is gone when the block ends; those of killed processes of this machine go first."""
    mine = f".{name}.{socket.gethostname()}"
    for stale in folder.glob(f"{escape(mine)}.*.part"):
        if not Path("/proc", stale.suffixes[-2][1:]).exists():
            shutil.rmtree(stale, ignore_errors=True)
    scratch = folder / f"{mine}.{os.getpid()}.part"
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
