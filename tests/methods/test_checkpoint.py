"""Checkpoints: atomic writes, no code in them, and errors that name the file."""

import io
import subprocess
import sys
import zipfile

import pytest
import torch

from twoview.loaders.limits import CHECKPOINT_BYTES
from twoview.methods import checkpoint

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
    """With a limit on file sizes, the kernel refuses to write more, as on a full disk."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, STATE)
    program = f"""
import resource, signal, torch
from pathlib import Path
from twoview.methods import checkpoint
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


HISTORY = {"epoch_seconds": [1.0], "wait_seconds": [0.1], "losses": [3.0, 2.0], "step_seconds": [0.4, 0.5]}
ODD = {
    "recipe must be ": {"recipe": [1]},
    "recipe must be a valid dictionary, got None": {"recipe": None},
    "method must be ": {"method": [1]},
    "method.w must be ": {"method": {"w": 1.0}},
    "method.0": {"method": {0: torch.ones(1)}},
    "epoch must be greater than or equal to 0, got -1": {"epoch": -1},
    "epoch must be a valid integer, got 1.5": {"epoch": 1.5},
    "more is not a known key": {"more": 1},
    "world must be ": {"world": 0},
    "precision must be ": {"precision": "fp8"},
    "optimizer.param_groups is missing": {"optimizer": {"state": {}}},
    "optimizer.state.0 must be ": {"optimizer": {"state": {0: 1}, "param_groups": []}},
    "scaler.scale must be ": {"scaler": {"scale": "x"}},
    "loader.batches must be ": {"loader": {"epoch": 1, "batches": -3}},
    "random.0.cpu is missing": {"random": [{}]},
    "history.losses.1 must be ": {"history": HISTORY | {"losses": [1.0, "x"]}},
    "history.wait_seconds is missing": {"history": {"epoch_seconds": [1.0], "losses": [], "step_seconds": []}},
    "history: losses and step_seconds must have the same length": {"history": HISTORY | {"losses": [1.0] * 3}},
    "epoch is 2, but history ends after epoch 1": {"history": HISTORY, "epoch": 2},
    "measured.training is missing": {"measured": {}},
    "measured must be ": {"measured": [1]},
    "measured must be omitted, not set to None": {"measured": None},
    "world must be a valid integer, got tensor([[0.": {"world": torch.zeros(3, 3)},
}


@pytest.mark.parametrize("complaint", ODD)
def test_an_odd_table_is_one_sentence_that_names_the_key(tmp_path, complaint):
    torch.save({**STATE, **ODD[complaint]}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt is not a checkpoint of twoview: ") as caught:
        checkpoint.load(tmp_path / "a.pt")
    assert f"twoview: {complaint}" in str(caught.value) and "\n" not in str(caught.value)


def shared(count):
    rows = torch.zeros(1000)
    return [rows[:] for _ in range(count)]


def nested(levels):
    """A few bytes unpickle to nested lists, of which a naive traversal would visit 2 ** levels."""
    value = [torch.ones(1)]
    for _ in range(levels):
        value = [value, value]
    return value


SAY_MORE = {
    "one number": torch.zeros(1).expand(10**6, 10**6),
    "rows": torch.zeros(1000).expand(10**5, 1000),
    "shared": shared(10_000),
    "sparse": torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (10**9, 10**9)),
    "no numbers": torch.empty(10**6, 10**6, device="meta"),
}


@pytest.mark.parametrize("value", SAY_MORE.values(), ids=SAY_MORE)
def test_tensors_that_say_more_than_the_file_has_are_refused(tmp_path, value):
    torch.save({**STATE, "scaler": {"deep": [{"er": value}]}}, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"a\.pt cannot be read as a checkpoint: it(s tensors claim| holds a tensor of)"
    ):
        checkpoint.load(tmp_path / "a.pt")


def test_what_lies_in_itself_is_gone_through_once(tmp_path):
    endless = nested(60)
    endless.append(endless)
    checkpoint.check_tensors(endless, tmp_path)


def rewritten(path, content, compression):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", compression) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path):
    state = {**STATE, "method": {"w": torch.zeros(10**6)}}
    rewritten(tmp_path / "a.pt", state, zipfile.ZIP_STORED)
    assert checkpoint.load(tmp_path / "a.pt")["method"]["w"].shape == (10**6,)
    rewritten(tmp_path / "a.pt", state, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"a\.pt cannot be read as a checkpoint: its .* is compressed"):
        checkpoint.load(tmp_path / "a.pt")


def test_a_record_that_says_it_is_longer_than_the_file_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, {**STATE, "method": {"w": torch.zeros(1000)}})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        (record,) = (one for one in archive.infolist() if one.file_size == 4000)
    at = content.rindex(record.filename.encode()) - 46  # in the archive's directory
    for offset in (20, 24):  # its stored and its unpacked size
        content[at + offset : at + offset + 4] = (4 * 10**9).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"its records claim 4,000,\d+,\d+ bytes, but the file has"):
        checkpoint.load(path)


def test_the_limit_of_a_checkpoint_can_be_set(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "a.pt", STATE)
    monkeypatch.setenv(CHECKPOINT_BYTES.variable, "100")
    with pytest.raises(
        ValueError, match=r"a\.pt must have at most 100 bytes, got .* TWOVIEW_MAX_CHECKPOINT_BYTES raises"
    ):
        checkpoint.load(tmp_path / "a.pt")


def test_torch_s_advice_to_run_what_a_file_holds_is_not_passed_on(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    for line in (
        "Weights only load failed",
        "Cannot use ``weights_only=True`` with files of tar",
        "Re-run `torch.load`",
    ):
        assert "eights" not in checkpoint.reason_of(RuntimeError(f"{line}: set `weights_only` to `False`"))
    with pytest.raises(ValueError, match=r"a\.pt cannot be read") as caught:
        checkpoint.load(tmp_path / "a.pt")
    assert "eights" not in str(caught.value)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    torch.save({**STATE, "epoch": Evil()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt cannot be read"):
        checkpoint.load(tmp_path / "a.pt")
    assert "code ran" not in capsys.readouterr().out
