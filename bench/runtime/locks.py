"""One process at a time writes to a place; a second one is told so at once."""

import contextlib
import errno
import fcntl
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

# What a system says where files cannot be locked: on some network shares, in a bucket that is mounted.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
HELD = {errno.EAGAIN, errno.EACCES}
HOLDER = re.compile(rb"([0-9]{1,10}) ([A-Za-z0-9._-]{1,255})\n")

_mine: set[tuple[int, Path]] = set()  # process and place, for a forked child has this set, but not the locks
_guard = threading.Lock()


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """No other process, and no other block of this one, is in such a block of the same path until this one ends.

    path: a file, there or not, whose folder is made; or a folder that is there. what: the path's noun in the sentence,
    as `the checkpoint`. BlockingIOError, with the sentence, if another is in it; nothing waits.

    The lock is the system's, on a hidden file beside the file or in the folder: it ends with its process, however that
    ends, and its forked children do not have it. The file is removed at the end, and one that a killed process left
    behind does not matter. Where the file system knows no locks, nothing is held, and nothing fails.
    """
    place = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    mine = os.getpid(), place
    with _guard:
        if mine in _mine:
            raise _busy(path, what, "this process already")
        _mine.add(mine)
    try:
        with _locked(path, what, place / ".lock" if place.is_dir() else place.with_name(f".{place.name}.lock")):
            yield
    finally:
        _mine.discard(mine)


@contextmanager
def _locked(path: Path, what: str, lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    file, mine = _taken(path, what, lock), os.getpid()
    try:
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except OSError as error:  # of a full disk, which names no file
            raise OSError(error.errno, error.strerror, str(lock)) from None
        yield
    finally:
        if os.getpid() == mine and _is(file, lock):
            lock.unlink(missing_ok=True)  # before it is let go: whoever has it open by then looks for it in vain
        os.close(file)


def _taken(path: Path, what: str, lock: Path) -> int:
    """The lock's file, open and locked. What was removed by another one between the two is opened anew."""
    while True:
        file = _opened(lock)
        try:
            _lock(file, path, what)
            if _is(file, lock):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _opened(lock: Path) -> int:
    """Whatever lies there: a link is not followed, and a pipe is not waited for."""
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(OSError):  # one that another user left behind can be locked by everyone
        os.fchmod(file, 0o666)
    return file


def can_lock(folder: Path) -> bool:
    """Whether the folder's file system knows locks."""
    with TemporaryFile(dir=folder) as file:
        return _asked(file.fileno())


def _lock(file: int, path: Path, what: str) -> None:
    try:
        _asked(file)
    except OSError as error:
        if error.errno in HELD:
            raise _busy(path, what, _holder(file)) from None
        raise


def _asked(file: int) -> bool:
    """False where the file system knows no locks. An OSError of HELD where another process has it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process, unlike flock's: forks do not inherit it
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _is(file: int, lock: Path) -> bool:
    """Whether the open file is the one that lies there."""
    try:
        there = lock.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)


def _holder(file: int) -> str:
    """In words: its process, where that has written it down."""
    found = HOLDER.fullmatch(os.pread(file, 300, 0))
    if not found:
        return "another process"
    pid, host = (part.decode() for part in found.groups())
    return f"another process (pid {pid}{'' if host == socket.gethostname() else f' on {host}'})"


def _busy(path: Path, what: str, by: str) -> BlockingIOError:
    return BlockingIOError(errno.EWOULDBLOCK, f"{what} {path} is being written by {by}")
