"""Checkpoints: whole or not at all, no code in them, errors by name."""

import subprocess
import sys

import pytest
import torch

from methods import checkpoint

STATE = {"recipe": {"name": "r"}, "method": {"w": torch.ones(3)}, "epoch": 1}


def test_round_trip(tmp_path):
    checkpoint.save(tmp_path / "a.pt", STATE)
    state = checkpoint.load(tmp_path / "a.pt")
    assert state["recipe"] == {"name": "r"} and torch.equal(state["method"]["w"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_a_missing_or_damaged_or_foreign_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*a\.pt"):
        checkpoint.load(tmp_path / "a.pt")
    checkpoint.save(tmp_path / "a.pt", STATE)
    content = (tmp_path / "a.pt").read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2], content[:-30]):
        (tmp_path / "a.pt").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.pt cannot be read as a checkpoint"):
            checkpoint.load(tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt is not a checkpoint of twoview"):
        checkpoint.load(tmp_path / "a.pt")


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path):
    """A limit on the size of files is the kernel's refusal to write more, as on a full disk."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, STATE)
    program = f"""
import resource, signal, torch
from pathlib import Path
from methods import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    checkpoint.save(Path("{path}"), {{"method": torch.zeros(1 << 16)}})
except OSError as error:
    print(error.strerror, error.filename)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == f"File too large {path}", done.stderr
    assert checkpoint.load(path)["epoch"] == 1 and [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_the_newest_are_kept_and_a_damaged_one_gives_way(tmp_path):
    path = tmp_path / "a.pt"
    for epoch in range(1, 5):
        checkpoint.save(path, {**STATE, "epoch": epoch})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.1.pt", "a.pt"]
    assert checkpoint.load_newest(path)[0]["epoch"] == 4
    content = bytearray(path.read_bytes())
    at = content.index(torch.ones(3).numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt cannot be read as a checkpoint: the checksum of its .* differs"):
        checkpoint.load(path)
    state, complaints = checkpoint.load_newest(path)
    assert state["epoch"] == 3 and len(complaints) == 1 and str(path) in complaints[0]
    path.unlink()
    assert checkpoint.load_newest(path)[0]["epoch"] == 3, "killed between two names"
    (tmp_path / "a.1.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.1\.pt cannot be read"):
        checkpoint.load_newest(path)
    assert checkpoint.load_newest(tmp_path / "b.pt") == (None, [])


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    torch.save({**STATE, "epoch": Evil()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt cannot be read"):
        checkpoint.load(tmp_path / "a.pt")
    assert "code ran" not in capsys.readouterr().out
