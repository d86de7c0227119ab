"""One writer at a time: a second writer is refused, and a writer that is gone blocks nobody."""

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from twoview.bench.runtime import locks
from twoview.bench.runtime.locks import alone

FORKS = multiprocessing.get_context("fork")


def hold(path, there):
    with alone(path, "the file"):
        there.set()
        time.sleep(60)


@pytest.fixture
def holder():
    """A function: path -> a process that holds the lock."""
    processes = []

    def start(path):
        there = FORKS.Event()
        process = FORKS.Process(target=hold, args=(path, there))
        process.start()
        processes.append(process)
        assert there.wait(60)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


@pytest.mark.parametrize("folder", [False, True])
def test_the_second_process_is_told_who_holds_the_lock(tmp_path, holder, folder):
    path = tmp_path if folder else tmp_path / "deeper" / "r.pt"
    process = holder(path)
    says = re.escape(f"the file {path} is being written by another process (pid {process.pid})")
    for _ in range(2):  # a refused process leaves the lock alone
        with pytest.raises(BlockingIOError, match=says), alone(path, "the file"):
            pass
    with alone(tmp_path / "deeper" / "other.pt", "the file"):
        pass


def test_a_full_disk_is_reported_with_the_lock_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left") as found, alone(tmp_path / "r.pt", "the file"):
        pass
    assert found.value.filename == str(tmp_path / ".r.pt.lock") and list(tmp_path.iterdir()) == []


def test_the_lock_is_released_and_its_file_is_removed(tmp_path):
    path = tmp_path / "r.pt"
    for _ in range(2):
        with alone(path, "the file"):
            assert [file.name for file in tmp_path.iterdir()] == [".r.pt.lock"]
    with pytest.raises(KeyError), alone(path, "the file"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_killed_process_does_not_keep_the_lock(tmp_path, holder):
    process = holder(tmp_path / "r.pt")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / ".r.pt.lock").exists()
    with alone(tmp_path / "r.pt", "the file"):
        pass
    assert not list(tmp_path.iterdir())


def test_one_process_cannot_take_the_lock_twice(tmp_path):
    path = tmp_path / "r.pt"
    (tmp_path / "link").symlink_to(tmp_path)
    with alone(path, "the file"):
        for again in (path, tmp_path / "link" / "r.pt"):
            with pytest.raises(BlockingIOError, match="by this process: try again"), alone(again, "the file"):
                pass
        with ThreadPoolExecutor(1) as pool, pytest.raises(BlockingIOError, match="by this process: try again"):
            pool.submit(enter, path).result()
    enter(path)


def enter(path):
    with alone(path, "the file"):
        pass


def test_a_forked_child_does_not_hold_the_lock(tmp_path):
    """The child outlives the parent's lock, and may then take it."""
    begin, words = FORKS.Event(), FORKS.SimpleQueue()

    def child():
        for _ in range(2):
            try:
                enter(tmp_path / "r.pt")
                words.put("entered")
            except BlockingIOError as error:
                words.put(str(error))
            begin.wait(60)

    with alone(tmp_path / "r.pt", "the file"):
        process = FORKS.Process(target=child)
        process.start()
        assert f"(pid {os.getpid()})" in words.get()
    enter(tmp_path / "r.pt")
    begin.set()
    assert words.get() == "entered"
    process.join()


def test_a_started_program_does_not_hold_the_lock(tmp_path):
    with alone(tmp_path / "r.pt", "the file"):
        program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    enter(tmp_path / "r.pt")
    program.communicate(b"\n")


def test_a_lock_on_a_removed_file_does_not_count(tmp_path, monkeypatch):
    """The first process removes its file after another one has opened it, and before that one locks it."""
    opened = locks._opened

    def late(lock):
        file = opened(lock)
        monkeypatch.setattr(locks, "_opened", opened)
        lock.unlink()
        return file

    monkeypatch.setattr(locks, "_opened", late)
    with alone(tmp_path / "r.pt", "the file"):
        assert (tmp_path / ".r.pt.lock").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", sorted(locks.NO_LOCKS))
def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    enter(tmp_path / "r.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"\x1b]0;x\x07", b"1" * 5000])
def test_foreign_content_of_a_lock_file_is_not_printed(tmp_path, holder, damage):
    process = holder(tmp_path / "r.pt")
    (tmp_path / ".r.pt.lock").write_bytes(damage)
    with pytest.raises(BlockingIOError, match=r"by another process: try again when it is done$"):
        enter(tmp_path / "r.pt")
    assert process.is_alive()


def test_a_link_in_place_of_the_lock_file_is_not_followed(tmp_path):
    (tmp_path / ".r.pt.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        enter(tmp_path / "r.pt")
    assert not (tmp_path / "elsewhere").exists()
