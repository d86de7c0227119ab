"""Checkpoints: whole or not at all, no code in them, errors by name."""

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


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    torch.save({**STATE, "epoch": Evil()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt cannot be read"):
        checkpoint.load(tmp_path / "a.pt")
    assert "code ran" not in capsys.readouterr().out
