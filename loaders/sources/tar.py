"""The members of a tar file, found by their headers alone: a million of them in seconds.

Formats: ustar, GNU and pax (IEEE Std 1003.1-2008, "pax", and GNU tar's manual, "Basic Tar Format"), and the one before
them, whose headers have no magic string. Python's `tarfile` reads the same ones, and takes minutes for a million.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twoview.loaders.checksum import xxh64, xxh64_of
from twoview.loaders.decode import pread
from twoview.loaders.files import NUMBER
from twoview.loaders.kernels import kernel
from twoview.loaders.reading import OpenFile

BLOCK = 512  # a tar file consists of blocks of so many bytes
WINDOW = 32 * BLOCK  # bytes that are read at a time, in which there may be more than one header
MEMBERS = 1 << 14  # maximum number of members that one call of the kernel finds
SIZE, CHECKSUM, KIND, MAGIC, PREFIX = 124, 148, 156, 257, 345  # where the fields of a header begin
LONGEST = 1 << 20  # most bytes of an extended header, or of a name
HIDDEN = np.uint64(0)  # in place of the hash of a suffix, for a name that begins with a dot


@dataclass(frozen=True)
class Members:
    """The N regular files in a tar file.

    starts, sizes: int64 (N,), where their bytes are. stems, suffixes: uint64 (N,), hashes (XXH64) of the name before
    and from the first dot of its last part on; HIDDEN for the suffix of a name that begins with a dot.
    headers: int64 (N,), where their headers are. named: number of a member -> its name, for names that are not in the
    header itself.
    """

    path: Path
    starts: np.ndarray
    sizes: np.ndarray
    stems: np.ndarray
    suffixes: np.ndarray
    headers: np.ndarray
    named: dict[int, bytes]

    def texts(self, chosen: np.ndarray, longest: int) -> np.ndarray:
        """Return the content of M members as bytes strings (M,). Raises ValueError if one is longer than `longest`."""
        sizes = self.sizes[chosen]
        if (sizes > longest).any():
            name = self.name(int(chosen[np.argmax(sizes)]))
            raise ValueError(f"{self.path}/{name} must have at most {longest} bytes, got {sizes.max():,}")
        content = np.zeros((len(chosen), max(1, int(sizes.max(initial=0)))), np.uint8)
        file = OpenFile(self.path)  # it is closed as soon as nothing refers to it
        _read_each(file.descriptor, self.starts[chosen], sizes, content)
        return content.view(f"S{content.shape[1]}")[:, 0]

    def name(self, member: int) -> str:
        """Return the name of a member."""
        name = self.named.get(member)
        if name is None:
            with open(self.path, "rb") as file:
                name = os.pread(file.fileno(), 100, int(self.headers[member])).split(b"\0")[0]
        return os.fsdecode(name)


def members(path: Path) -> Members:
    """Return the regular files in a tar file.

    Raises ValueError, naming the file, if it is not a tar file, is damaged or cut short, or has sparse files.
    """
    file, place, count = OpenFile(path), 0, 0
    tables: list[list[np.ndarray]] = []
    named: dict[int, bytes] = {}
    try:
        while place >= 0:
            table = [*np.empty((3, MEMBERS), np.int64), *np.empty((2, MEMBERS), np.uint64)]
            found, place, special = _plain(file.descriptor, place, file.size, np.empty(WINDOW, np.uint8), *table)
            tables.append([column[:found] for column in table])
            count += found
            if special:
                place, row, name = _special(file, place)
                if row:
                    tables.append([np.array([value], column.dtype) for value, column in zip(row, table, strict=True)])
                    named[count] = name
                    count += 1
    except ValueError as error:
        raise ValueError(f"{path} is not a tar file, or is damaged: {error}") from None
    headers, starts, sizes, stems, suffixes = (np.concatenate(column) for column in zip(*tables, strict=True))
    return Members(path, starts, sizes, stems, suffixes, headers, named)


@kernel
def _read_each(descriptor, starts, sizes, content):
    """Read the bytes at starts[i] into row i of `content`."""
    for row in range(len(starts)):
        pread(descriptor, content.ctypes.data + row * content.shape[1], sizes[row], starts[row])


@kernel
def _plain(descriptor, place, end, window, headers, starts, sizes, stems, suffixes):
    """Find members from `place` on until one is not plain, the table is full, or the file ends.

    A plain member's header has its whole name and its size in octal digits.
    Returns the number of members found, the place after them, -1 at the end, and whether something special is there.
    """
    count, first, last = 0, 0, 0  # the window holds the bytes first .. last of the file
    while count < len(starts):
        if (place + 2 * BLOCK > last and last < end) or place + BLOCK > last:  # two, for an extended header
            first = place
            last = first + pread(descriptor, window.ctypes.data, len(window), first)
            if last < place + BLOCK:
                return count, place, True
        at = place - first
        kind, size = window[at + KIND], 0
        if window[at] == 0 and kind == 0 and window[at + CHECKSUM] == 0:
            return count, -1, False
        plain = window[at + PREFIX] == 0 and window[at + MAGIC] == 117 and window[at + MAGIC + 4] == 114
        if kind == 120:  # "x", an extended header: it matters only if it has a path or a size
            plain = plain and place + 2 * BLOCK <= last and not _matters(window, at + BLOCK)
        elif kind != 48 and kind != 53:  # "0", a file, and "5", a folder
            plain = False
        for digit in window[at + SIZE : at + SIZE + 11]:
            plain = plain and 48 <= digit < 56
            size = 8 * size + digit - 48
        if not plain:
            return count, place, True
        if kind == 48:
            if place + BLOCK + size > end:
                return count, place, True
            length, dot = 0, 100
            while length < 100 and window[at + length] != 0:
                if window[at + length] == 47:  # "/": the last part of the name begins
                    dot = 100
                elif window[at + length] == 46 and dot == 100:  # its first "."
                    dot = length
                length += 1
            dot = min(dot, length)
            headers[count], starts[count], sizes[count] = place, place + BLOCK, size
            hidden = dot < length and (dot == 0 or window[at + dot - 1] == 47)
            stems[count] = xxh64(window, at, dot)
            suffixes[count] = HIDDEN if hidden else xxh64(window, at + dot, length - dot)
            count += 1
        place += BLOCK + (0 if kind == 53 else (size + BLOCK - 1) // BLOCK * BLOCK)
    return count, place, False


@kernel
def _matters(window, at):
    """Return whether the block at `at`, the first one of an extended header, may give a path or a size.

    One that is longer than the block is taken to do so.
    """
    if window[at + BLOCK - 1] != 0:
        return True
    for place in range(at, at + BLOCK - 5):
        if window[place] == 32:  # " ", which precedes each key
            rest = window[place + 1 : place + 6]
            if (rest[0] == 112 and rest[1] == 97) or (rest[0] == 115 and rest[1] == 105) or rest[0] == 71:  # pa, si, G
                return True
    return False


def _special(file: OpenFile, place: int) -> tuple[int, tuple[int, ...], bytes]:
    """Read one member that is not plain, with the headers that describe it.

    Returns the place after it, -1 at the end, its row in the table, empty if it is not a regular file, and
    its name.
    """
    said: dict[bytes, bytes] = {}  # what the headers before the member's own say about it: b"path", b"size"
    while place < file.size:
        header = file.read(place, min(BLOCK, file.size - place)).tobytes()
        if not header.strip(b"\0"):
            return -1, (), b""  # blocks of zeros end the file
        if len(header) < BLOCK or (header[MAGIC : MAGIC + 5] != b"ustar" and not _checks(header)):
            raise ValueError(f"there is no header of a member at byte {place:,}")
        kind, start, size = header[KIND : KIND + 1], place + BLOCK, _number(header[SIZE : SIZE + 12])
        if kind in b"0\0" + b"7":
            size = _size_in(said[b"size"]) if b"size" in said else size
            if any(key.startswith(b"GNU.sparse") for key in said):
                raise ValueError(f"the member at byte {place:,} is a sparse file, which cannot be read")
            if start + size > file.size:
                raise ValueError(f"the member at byte {place:,} is cut short")
            name = said.get(b"path", _name(header))
            after = start + -(-size // BLOCK) * BLOCK
            if kind == b"\0" and name.endswith(b"/"):
                return after, (), b""  # a folder, in the oldest format
            last = name.rfind(b"/") + 1
            dot = name.find(b".", last) if b"." in name[last:] else len(name)
            suffix = int(HIDDEN) if dot == last and dot < len(name) else xxh64_of(name[dot:])
            return after, (place, start, size, xxh64_of(name[:dot]), suffix), name
        if kind == b"S":
            raise ValueError(f"the member at byte {place:,} is a sparse file, which cannot be read")
        content = kind in (b"L", b"K", b"x", b"g")  # only these have content; folders and links have none
        if content and size > LONGEST:
            raise ValueError(f"the header at byte {place:,} must have at most {LONGEST:,} bytes, got {size:,}")
        if kind == b"L":  # a long name, as GNU tar stores it
            said[b"path"] = file.read(start, size).tobytes().rstrip(b"\0")
        elif kind == b"x":
            said |= _records(file.read(start, size).tobytes())
        place = start + (-(-size // BLOCK) * BLOCK if content else 0)
        if kind not in (b"L", b"K", b"x"):
            return place, (), b""  # the headers before it described this one
    raise ValueError(f"it is cut short: there are no blocks of zeros at its end, byte {file.size:,}")


def _number(field: bytes) -> int:
    """Return a number in a header: octal digits, or, as GNU tar writes large ones, bytes after a bit that is set."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:])
    digits = field.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise ValueError(f"a number in a header must have octal digits, got {digits!r}")
    return int(digits or b"0", 8)


def _size_in(record: bytes) -> int:
    """Return the size that an extended header gives."""
    if not NUMBER.fullmatch(record.decode("latin-1")):
        raise ValueError(f"a size must be a whole number, got {record[:40]!r}")
    return int(record)


def _checks(header: bytes) -> bool:
    """Return whether a header has its own checksum, for which the field of the checksum counts as spaces."""
    field = header[CHECKSUM : CHECKSUM + 8]
    with suppress(ValueError):
        return _number(field) == sum(header) - sum(field) + 8 * ord(" ")
    return False


def _name(header: bytes) -> bytes:
    """Return the name that a header gives. In the format of GNU, other things are in place of the prefix."""
    name, prefix = header[:100].split(b"\0")[0], header[PREFIX : PREFIX + 155].split(b"\0")[0]
    return prefix + b"/" + name if prefix and header[MAGIC : MAGIC + 6] == b"ustar\0" else name


def _records(content: bytes) -> dict[bytes, bytes]:
    """Return key -> value of the records of an extended header, each of the form "LENGTH KEY=VALUE\\n"."""
    found = {}
    while content:
        length = int(content.split(b" ", 1)[0])
        key, mark, value = content[:length].removesuffix(b"\n").partition(b" ")[2].partition(b"=")
        if length < 5 or not mark:
            raise ValueError("an extended header has a record without a length, a key and a value")
        found[key] = value
        content = content[length:]
    return found
