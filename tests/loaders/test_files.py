"""Whole files: after an error, after a kill, with a name that glob would read as a pattern."""

import os
import socket
import subprocess
import sys

import pytest

from twoview.loaders.files import whole_file


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
    program = "import sys, os, pathlib, loaders.files as f\nwith f.whole_file(pathlib.Path(sys.argv[1])) as part:\n"
    program += "    part.write_text('half'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    living = tmp_path / f".{name}.{socket.gethostname()}.{os.getppid()}.part"
    living.write_text("another process is writing this")
    with whole_file(path) as part:
        part.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([living, path])


def test_an_error_of_the_move_names_the_file_and_not_the_temporary_one(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError) as caught, whole_file(tmp_path / "a") as part:
        part.write_text("x")
    assert caught.value.filename == str(tmp_path / "a") and [file.name for file in tmp_path.iterdir()] == ["a"]
