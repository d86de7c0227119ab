"""Locks by which only one process at a time writes to a file or folder. A second one gets an error at once."""

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

# Errors of a file system without locks, such as some network shares and mounted buckets.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
HELD = {errno.EAGAIN, errno.EACCES}  # errors if another process holds the lock
# A lock file's content: the id and the host of the process that holds the lock.
HOLDER = re.compile(rb"([0-9]{1,10}) ([A-Za-z0-9._-]{1,255})\n")

# What this process has locked. The process id is part of the key because a forked child inherits this set, but not the
# locks.
_mine: set[tuple[int, Path]] = set()
_guard = threading.Lock()


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a path during the block, against other processes and against other blocks of this process.

    path: an existing folder, or a file, which need not exist; the folder of a file is created if necessary.
    what: the words for the path in an error, such as `the checkpoint`.
    Raises BlockingIOError if the lock is held already, without waiting for it.

    The operating system's lock is used, on a hidden file next to the file or inside the folder. The system releases it
    when the process ends for any reason, and forked children do not inherit it. The hidden file is removed at the end;
    a file that a killed process left behind does no harm. On a file system without locks nothing is locked and no error
    is raised.
    """
    place = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    mine = os.getpid(), place
    with _guard:
        if mine in _mine:
            raise _busy(path, what, "this process")
        _mine.add(mine)
    try:
        with _locked(path, what, place / ".lock" if place.is_dir() else place.with_name(f".{place.name}.lock")):
            yield
    finally:
        _mine.discard(mine)


@contextmanager
def to_write(path: Path, force: bool) -> Iterator[None]:
    """Hold the lock of a file that the block writes. Raises FileExistsError if it exists and `force` is not set."""
    with alone(path, "the file"):
        if path.exists() and not force:
            raise FileExistsError(f"{path} already exists: to overwrite it, use --force (force=True in Python)")
        yield


@contextmanager
def _locked(path: Path, what: str, lock: Path) -> Iterator[None]:
    """Hold the system's lock on the hidden file `lock`, which says who holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    file, mine = _taken(path, what, lock), os.getpid()
    try:
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except OSError as error:  # the disk may be full, and the error then does not name the file
            raise OSError(error.errno, error.strerror, str(lock)) from None
        yield
    finally:
        if os.getpid() == mine and _is(file, lock):
            # Removed before it is unlocked: a process that has opened it by then will see that it is gone (`_taken`).
            lock.unlink(missing_ok=True)
        os.close(file)


def _taken(path: Path, what: str, lock: Path) -> int:
    """Return a descriptor of the lock file, opened and locked.

    If another process removed the file between opening and locking, it is opened again.
    """
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
    """Open or create the lock file. A symbolic link is not followed, and a pipe is not waited for."""
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(OSError):  # everyone may lock it; it fails for a file that another user left behind
        os.fchmod(file, 0o666)
    return file


def can_lock(folder: Path) -> bool:
    """Return whether the folder's file system supports locks."""
    with TemporaryFile(dir=folder) as file:
        return _asked(file.fileno())


def _lock(file: int, path: Path, what: str) -> None:
    """Lock the file. Raises BlockingIOError, naming `path`, if another process holds the lock."""
    try:
        _asked(file)
    except OSError as error:
        if error.errno in HELD:
            raise _busy(path, what, _holder(file)) from None
        raise


def _asked(file: int) -> bool:
    """Try to lock the file. Return False if the file system has no locks.

    Raises OSError with an errno in HELD if another process holds the lock.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # belongs to the process: unlike flock's, forks do not get it
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _is(file: int, lock: Path) -> bool:
    """Return whether the open file is still the one at the path `lock`."""
    try:
        there = lock.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)


def _holder(file: int) -> str:
    """Return in words which process holds the lock, if the lock file says so."""
    found = HOLDER.fullmatch(os.pread(file, 300, 0))
    if not found:
        return "another process"
    pid, host = (part.decode() for part in found.groups())
    return f"another process (pid {pid}{'' if host == socket.gethostname() else f' on {host}'})"


def _busy(path: Path, what: str, by: str) -> BlockingIOError:
    """Return the error for a path whose lock is held."""
    return BlockingIOError(errno.EWOULDBLOCK, f"{what} {path} is being written by {by}: try again when it is done")
