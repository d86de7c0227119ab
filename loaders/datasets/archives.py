"""Archives of datasets: download, check and unpack them. Unpacking is atomic."""

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

MOST_WORDS = 1 << 16  # bytes of a tar member that is no file or folder but metadata, such as a long name
DEEPEST = 64  # levels of nested folders
SMALL = 1 << 20  # bytes; a smaller archive may unpack to as much as one of this size, which is no danger
PIECE = 1 << 20  # bytes that are copied at once
GZIP = b"\x1f\x8b"  # the first bytes of a gzip file
FILES = (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)  # types of the tar members that are files and folders
NEITHER = "neither a file nor a folder: nothing is unpacked"


@dataclass(frozen=True)
class Archive:
    """An archive that can be downloaded.

    url: address of a .tar, .tar.gz, .tgz or .zip file. md5: the file's checksum, None if its publisher gives none.
    holds: path in the archive of the wanted folder or file.
    """

    url: str
    md5: str | None
    holds: str

    @property
    def name(self) -> str:
        """The archive's file name."""
        return self.url.rpartition("/")[2]


def obtain(archive: Archive, folder: Path) -> None:
    """Make folder / archive.holds, unless it exists: unpack the archive in `folder`, or download it first.

    The result appears atomically. An archive that was already in `folder` stays there.
    Raises FileNotFoundError if the download fails, ValueError if the checksum differs, the archive is damaged, or a
    path in it leads outside.
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
    """Raise ValueError, with both checksums, if the MD5 checksum of `file` is not `md5`, unless `md5` is None."""
    from torchvision.datasets.utils import calculate_md5

    if md5 and (found := calculate_md5(file)) != md5:
        raise ValueError(f"{file.name} must have the MD5 checksum {md5}, got {found}: it is damaged or another version")


def unpack(file: Path, folder: Path) -> None:
    """Unpack a .tar, .tar.gz, .tgz or .zip into `folder`, which must not exist yet; after an error nothing is left.

    Only the names and contents of files and folders are taken from the archive: no links, devices or file modes, so
    that no member can lead another one out of the folder. Raises ValueError, naming the archive, if it is damaged or
    not a file, if a path leads out of it, if it holds anything but files and folders, or if it unpacks to more than
    `limits.UNPACKED` allows or the disk has room for.
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
    except Exception as error:  # tarfile, zipfile and their libraries raise nearly every kind of error for damage
        shutil.rmtree(folder)
        raise ValueError(f"{file} cannot be unpacked: {reason(error)}") from None
    except BaseException:
        shutil.rmtree(folder)
        raise


def gunzipped(file: Path) -> bytes:
    """Return the unpacked content of a .gz file.

    Raises ValueError, naming the file, if it is damaged, not a regular file, or unpacks to more than `limits.UNPACKED`
    allows.
    """
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
    """The archive is not damaged, but holds something that must not be unpacked."""


class _Room:
    """Counts the bytes to be unpacked, against `limits.UNPACKED` and the free space of the disk."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.own = max(file.stat().st_size, SMALL)
        self.free = shutil.disk_usage(folder).free
        self.taken = 0

    def take(self, size: int) -> None:
        """Count a member of `size` bytes. Raises _Refused if it is too much."""
        if size < 0:
            raise tarfile.ReadError(f"it holds a file with a negative size, {size:,} bytes")
        self.taken += size + tarfile.BLOCKSIZE  # an empty file takes one block in a tar, and about as much on a disk
        if fault := UNPACKED.fault(-(-self.taken // self.own)):
            raise _Refused(f"{self.file}, unpacked, {fault}: nothing is unpacked")
        if self.taken > self.free:
            raise _Refused(
                f"{self.file} needs at least {self.taken:,} bytes when unpacked, and the disk of {self.folder} has "
                f"{self.free:,} free: nothing is unpacked"
            )


# The members of an archive: (path, size in bytes, content). A folder has None for its content.
_Members = Iterator[tuple[str, int, IO[bytes] | None]]


def _zip_members(file: Path, packed: BinaryIO) -> _Members:
    """Yield the members of a zip. Raises _Refused for one that is neither a file nor a folder."""
    with zipfile.ZipFile(packed) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # Unix keeps the file mode in the upper 16 bits
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _Refused(f"{file} holds {quoted(member.filename)}, which is {NEITHER}")
            if member.is_dir():
                yield member.filename, 0, None
            else:
                with archive.open(member) as content:
                    yield member.filename, member.file_size, content


def _tar_members(file: Path, packed: BinaryIO) -> _Members:
    """Yield the members of a tar. Raises _Refused for one that is neither a file nor a folder."""
    packed.seek(0)
    mode = "r:gz" if packed.read(2) == GZIP else "r:"
    packed.seek(0)
    with tarfile.open(None, mode, packed, tarinfo=_Member) as archive:  # type: ignore[call-overload]  # mode is a str
        while member := archive.next():
            archive.members.clear()  # tarfile keeps all members, and there may be millions
            if member.isdir():
                yield member.name, 0, None
            elif member.isreg() and not member.issparse():
                yield member.name, member.size, archive.extractfile(member)
            else:
                raise _Refused(f"{file} holds {quoted(member.name)}, which is {NEITHER}")


class _Member(tarfile.TarInfo):
    """A tar member whose metadata has a bounded size: tarfile reads long names and the like into memory at once."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type not in FILES and member.size > MOST_WORDS):
            raise tarfile.ReadError(f"it holds a header with a size of {member.size:,} bytes")
        return member


def _write(file: Path, name: str, content: IO[bytes] | None, folder: Path, size: int) -> None:
    """Make one file or folder from a member of the archive.

    name: its path in the archive. content: None for a folder. size: number of bytes that the archive says it has.
    Raises _Refused for a path that is not allowed, EOFError if the content ends early.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise _Refused(f"{file} holds the path {quoted(name)}, which leads out of it: nothing is unpacked")
    if not path.parts and content is not None:
        raise _Refused(f"{file} holds a file called {quoted(name)}, which cannot be a file's name: nothing is unpacked")
    if len(path.parts) > DEEPEST:
        raise _Refused(f"{file} must have at most {DEEPEST} levels of nested folders, got {len(path.parts)}")
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
            f"{file} holds the path {quoted(name)}, a part of which is both a file and a folder: nothing is unpacked"
        ) from None
    if size:
        raise EOFError(f"{quoted(name)} is cut short")


def _download(url: str, folder: Path) -> Path:
    """Download a file into `folder`, and return its path. Raises FileNotFoundError, naming the URL, if that fails."""
    from torchvision.datasets.utils import download_url

    try:
        download_url(url, folder)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"downloading {url} failed: {reason(error)}") from None
    return folder / url.rpartition("/")[2]


@contextmanager
def scratch_folder(folder: Path, name: str) -> Iterator[Path]:
    """Yield a temporary folder in `folder`, and remove it when the block ends.

    Temporary folders that killed processes of this machine left behind are removed first.
    """
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
