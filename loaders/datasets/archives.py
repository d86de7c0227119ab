"""Archives: downloaded, checked, and unpacked whole or not at all."""

import gzip
import os
import shutil
import socket
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Self

from twoview.loaders.errors import reason
from twoview.loaders.files import opened
from twoview.loaders.limits import UNPACKED
from twoview.loaders.names import quoted

MOST_WORDS = 1 << 16  # bytes of a header's long name and other words
DEEPEST = 64  # folders in folders
SMALL = 1 << 20  # bytes; an archive below them is no danger by its ratio
PIECE = 1 << 20  # bytes that are copied at once
GZIP = b"\x1f\x8b"
FILES = (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
NEITHER = "neither a file nor a folder: nothing is unpacked"


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
    """Unpacks a .tar, .tar.gz, .tgz or .zip into `folder`, which must not be there yet: whole or not at all.

    Only files and folders are made, with names and bytes and nothing else of the archive's: no link, device or mode,
    so that no member can lead another one out of the folder. ValueError, naming the archive, if it is damaged, a path
    leads out of it, it holds anything else, or it unpacks to more than `limits.UNPACKED` or the disk has room for;
    and for what is no file at all.
    """
    with opened(file) as packed:
        _unpack(file, packed, folder)


def _unpack(file: Path, packed: BinaryIO, folder: Path) -> None:
    folder.mkdir(parents=True)
    try:
        room = _Room(file, folder)
        for name, size, content in (_zip_members if zipfile.is_zipfile(packed) else _tar_members)(file, packed):
            room.take(size)
            _write(file, name, content, folder, size)
    except (_Refused, MemoryError):
        shutil.rmtree(folder)
        raise
    except Exception as error:  # of damage, tarfile, zipfile and the libraries below them raise nearly every kind
        shutil.rmtree(folder)
        raise ValueError(f"{file} cannot be unpacked: {reason(error)}") from None
    except BaseException:
        shutil.rmtree(folder)
        raise


def gunzipped(file: Path) -> bytes:
    """The content of a .gz. ValueError, naming it, if it is damaged, no file, or has more than `limits.UNPACKED`."""
    most = UNPACKED.value * max(file.stat().st_size, SMALL)
    try:
        with opened(file) as packed, gzip.open(packed) as unpacked:
            content = unpacked.read(most + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file} cannot be unpacked: {reason(error)}") from None
    if len(content) > most:
        raise ValueError(f"{file}, unpacked, {UNPACKED.fault(UNPACKED.value + 1)}")
    return content


class _Refused(ValueError):
    """Nothing is damaged, and what is there is not wanted."""


class _Room:
    """What may still be unpacked."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.own = max(file.stat().st_size, SMALL)
        self.free = shutil.disk_usage(folder).free
        self.taken = 0

    def take(self, size: int) -> None:
        if size < 0:
            raise tarfile.ReadError(f"a file of {size:,} bytes")
        self.taken += size + tarfile.BLOCKSIZE  # what an empty file takes in a tar, and more or less on a disk
        if fault := UNPACKED.fault(-(-self.taken // self.own)):
            raise _Refused(f"{self.file}, unpacked, {fault}: nothing is unpacked")
        if self.taken > self.free:
            raise _Refused(
                f"{self.file} needs {self.taken:,} bytes and more, unpacked, and {self.folder} has {self.free:,} free: "
                f"nothing is unpacked"
            )


# The members of an archive: (path, bytes, the content; None of a folder).
_Members = Iterator[tuple[str, int, IO[bytes] | None]]


def _zip_members(file: Path, packed: BinaryIO) -> _Members:
    with zipfile.ZipFile(packed) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _Refused(f"{file} holds {quoted(member.filename)}, which is {NEITHER}")
            if member.is_dir():
                yield member.filename, 0, None
            else:
                with archive.open(member) as content:
                    yield member.filename, member.file_size, content


def _tar_members(file: Path, packed: BinaryIO) -> _Members:
    packed.seek(0)
    mode = "r:gz" if packed.read(2) == GZIP else "r:"
    packed.seek(0)
    with tarfile.open(None, mode, packed, tarinfo=_Member) as archive:  # type: ignore[call-overload]  # of the mode
        while member := archive.next():
            archive.members.clear()  # it keeps each, and there may be millions
            if member.isdir():
                yield member.name, 0, None
            elif member.isreg() and not member.issparse():
                yield member.name, member.size, archive.extractfile(member)
            else:
                raise _Refused(f"{file} holds {quoted(member.name)}, which is {NEITHER}")


class _Member(tarfile.TarInfo):
    """One whose long name and other words have a bounded size: tarfile reads them at once."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type not in FILES and member.size > MOST_WORDS):
            raise tarfile.ReadError(f"a header that says {member.size:,} bytes")
        return member


def _write(file: Path, name: str, content: IO[bytes] | None, folder: Path, size: int) -> None:
    """Makes one file or folder. size: bytes that the archive says it has."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise _Refused(f"{file} holds the path {quoted(name)}, which leads out of it: nothing is unpacked")
    if not path.parts and content is not None:
        raise _Refused(f"{file} holds a file called {quoted(name)}, which is no name of one: nothing is unpacked")
    if len(path.parts) > DEEPEST:
        raise _Refused(f"{file} must have at most {DEEPEST} folders in each other, got {len(path.parts)}")
    target = folder / path
    try:
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as written:
            while piece := content.read(min(size, PIECE)):
                written.write(piece)
                size -= len(piece)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise _Refused(
            f"{file} holds the path {quoted(name)}, a part of which is a file and a folder: nothing is unpacked"
        ) from None
    if size:
        raise EOFError(f"{quoted(name)} is cut short")


def _download(url: str, folder: Path) -> Path:
    from torchvision.datasets.utils import download_url

    try:
        download_url(url, folder)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"downloading {url} failed: {reason(error)}") from None
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
