"""Atomic writing: after an error, after a kill, with a name that contains a glob pattern. Also non-regular files."""

import os
import socket
import subprocess
import sys

import pytest

from twoview.loaders.files import bytes_of, lines_of, whole_file
from twoview.loaders.limits import LIST_BYTES


def test_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as part:
        part.write_text("first")
        assert not path.exists()
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_text("second, cut")
        raise RuntimeError
    assert path.read_text() == "first" and [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_an_error_without_a_file_gets_one(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: .*a\.txt"), whole_file(tmp_path / "a.txt") as part:
        part.write_text("x")
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["a.txt", "a[1].txt"])
def test_what_a_killed_process_left_is_removed_and_a_living_one_s_is_not(tmp_path, name):
    path = tmp_path / name
    program = (
        "import sys, os, pathlib, twoview.loaders.files as f\nwith f.whole_file(pathlib.Path(sys.argv[1])) as part:\n"
    )
    program += "    part.write_text('half'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    living = tmp_path / f".{name}.{socket.gethostname()}.{os.getppid()}.part"
    living.write_text("another process is writing this")
    with whole_file(path) as part:
        part.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([living, path])


def test_an_error_of_the_move_names_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(IsADirectoryError) as caught, whole_file(tmp_path / "a") as part:
        part.write_text("x")
        (tmp_path / "a").mkdir()
    assert caught.value.filename == str(tmp_path / "a") and [file.name for file in tmp_path.iterdir()] == ["a"]


def test_what_is_no_file_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkdir("folder")
    os.symlink("pipe", "link")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    before = {each: each.lstat().st_ino for each in tmp_path.iterdir()}
    for name in ("pipe", "folder", "link", "socket"):
        found = "a folder" if name == "folder" else "a pipe or a device"
        with pytest.raises(ValueError, match=f"/{name} must be a file, got {found}$"), whole_file(tmp_path / name):
            raise AssertionError("work was done for what cannot be kept")
    assert {each: each.lstat().st_ino for each in tmp_path.iterdir()} == before


@pytest.mark.timeout(60)
def test_what_is_no_file_is_named_and_never_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.symlink("/dev/zero", "zero")
    os.mkdir("folder")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    with open("huge", "wb") as file:
        file.truncate(100_000_000_000)
    for name, says in (
        ("pipe", "must be a file, got a pipe or a device"),
        ("zero", "must be a file, got a pipe or a device"),
        ("folder", "Is a directory"),
        ("socket", "No such device or address"),
        ("huge", "must have at most 1,073,741,824 bytes, got 100,000,000,000; .* TWOVIEW_MAX_LIST_BYTES raises"),
    ):
        for read in (lines_of, lambda path: bytes_of(path, LIST_BYTES)):
            with pytest.raises((ValueError, OSError), match=says) as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("content", [b"a\r\nb\rc\n", b"\xef\xbb\xbfa\nb\nc", b"a\nb\nc"])
def test_lines_end_as_any_system_ends_them(content, tmp_path):
    (tmp_path / "list.txt").write_bytes(content)
    assert lines_of(tmp_path / "list.txt") == ["a", "b", "c"]
