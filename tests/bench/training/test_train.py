"""Training that is killed, interrupted, resumed, or spread over processes, as a user starts it."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from twoview.cli import run
from twoview.methods import checkpoint

RECIPE = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 4
batch = 32
train_images = 320
precision = "fp32"
deterministic = true
checkpoint_steps = 3
[method]
name = "simclr"
hidden = 32
projection = 16
[backbone]
width = 8
"""
STEPS = 40

# The command, which gets a signal a given number of seconds after its first checkpoint, however slow the machine is.
SIGNALED = """
import os, sys, threading
from twoview.methods import checkpoint

number, delay, save = int(sys.argv.pop(1)), float(sys.argv.pop(1)), checkpoint.save

def saved(*args):
    save(*args)
    checkpoint.save = save
    threading.Timer(delay, os.kill, (os.getpid(), number)).start() if delay else os.kill(os.getpid(), number)

checkpoint.save = saved
from twoview.cli import main
main()
"""

# The command on two ranks: the second fails in a joint measurement, and the first is slow to save.
UNMEASURABLE = """
import os, time
from twoview.bench.training import train as training
from twoview.methods import checkpoint

save = checkpoint.save

def slowly(path, state):
    time.sleep(2 if "measured" in state else 0)
    save(path, state)

def fails(*_):
    raise Exception("no [counter] here")

if os.environ["RANK"] == "0":
    checkpoint.save = slowly
else:
    training._step_seconds = fails
from twoview.cli import main
main()
"""


class Runs:
    """`twoview train` in separate processes, all with the same recipe and betons."""

    def __init__(self, folder: Path, betons: Path) -> None:
        self.folder, self.betons = folder, betons
        self.recipe = folder / "r.toml"
        self.recipe.write_text(RECIPE)

    def start(self, out: str, *words: str, ranks: int = 1) -> subprocess.Popen[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
        return self.popen(*launcher, "-m", "twoview", "train", *self.words(out), *words)

    def signaled(self, out: str, number: int, delay: float = 0.0, *words: str) -> subprocess.Popen[str]:
        return self.popen("-c", SIGNALED, str(int(number)), str(delay), "train", *self.words(out), *words)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        # A background shell makes its children ignore SIGINT, and Python keeps it so.
        return subprocess.Popen(
            [sys.executable, *words], stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

    def words(self, out: str) -> list[str]:
        return [str(self.recipe), "--out", str(self.folder / out), "--betons", str(self.betons), "--json"]

    def finish(self, out: str, *words: str) -> str:
        """Trains to the end in this process, which is quicker; returns the hash of the losses."""
        threads, said = torch.get_num_threads(), io.StringIO()
        with redirect_stdout(said):
            assert run(["train", *self.words(out), "--loss-hash", *words]) == 0
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        return json.loads(said.getvalue())["loss_hash"]

    def path(self, out: str) -> Path:
        return self.folder / out / "checkpoints" / "r-seed0.pt"

    def wait_for_checkpoint(self, process: subprocess.Popen[str], out: str) -> None:
        while not self.path(out).exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    def state(self, out: str) -> dict:
        return checkpoint.load(self.path(out))

    def assert_equal(self, one: str, other: str) -> None:
        a, b = self.state(one), self.state(other)
        assert a["history"]["losses"] == b["history"]["losses"] and len(a["history"]["losses"]) == STEPS
        for name, weights in a["method"].items():
            assert torch.equal(weights, b["method"][name]), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory, betons):
    runs = Runs(tmp_path_factory.mktemp("runs"), betons)
    runs.whole = runs.finish("whole")
    return runs


def test_two_deterministic_runs_are_bit_equal(runs):
    again = runs.finish("again")
    assert again == runs.whole and len(again) == 16
    runs.assert_equal("whole", "again")
    assert runs.finish("other", "--epochs", "1", "--seed", "1") != runs.finish("one", "--epochs", "1")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)]
)
def test_a_signal_lets_the_step_end_and_leaves_a_checkpoint(runs, number, code):
    out = f"signal{code}"
    process = runs.signaled(out, number)
    _, complaints = process.communicate()
    assert process.returncode == code, complaints
    done = len(runs.state(out)["history"]["losses"])
    assert f"holds step {done}: continue with --resume" in " ".join(complaints.split())
    assert "Traceback" not in complaints
    assert ("interrupted; finished work is kept" in complaints) == (number == signal.SIGINT)
    assert {file.name for file in runs.path(out).parent.iterdir()} <= {"r-seed0.pt", "r-seed0.1.pt"}
    runs.finish(out, "--resume")
    runs.assert_equal("whole", out)


def test_a_run_killed_twice_ends_with_the_same_weights(runs):
    rng, out = random.Random(0), "killed"
    for words in ((), ("--resume",)):
        process = runs.signaled(out, signal.SIGKILL, rng.uniform(0, 0.3), *words)
        process.communicate()
        assert process.returncode == -signal.SIGKILL or "measured" in runs.state(out)
    runs.finish(out, "--resume")
    runs.assert_equal("whole", out)


@pytest.mark.long
def test_a_run_killed_at_random_moments_ends_with_the_same_weights(runs):
    rng = random.Random(20)
    out, survived = "kills", 0
    while survived < 20:
        process = runs.start(out, *(["--resume"] if runs.path(out).exists() else []))
        if survived == 0:
            runs.wait_for_checkpoint(process, out)
        time.sleep(rng.uniform(0, 6 if survived else 1))
        process.kill()
        process.communicate()
        survived += 1
        if runs.path(out).exists() and "measured" in runs.state(out):
            runs.assert_equal("whole", out)
            for file in runs.path(out).parent.iterdir():
                file.unlink()
    runs.finish(out, *(["--resume"] if runs.path(out).exists() else []))
    runs.assert_equal("whole", out)


def test_the_previous_checkpoint_replaces_a_damaged_one(runs, capsys, monkeypatch):
    out, saved, save = "damaged", [], checkpoint.save

    def interrupted(*args):
        save(*args)
        saved.append(args)
        if len(saved) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(checkpoint, "save", interrupted)
    assert run(["train", *runs.words(out)]) == 130
    monkeypatch.undo()
    content = bytearray(runs.path(out).read_bytes())
    weights = next(value for value in runs.state(out)["method"].values() if value.ndim == 2)
    content[content.index(weights.numpy().tobytes())] ^= 1
    runs.path(out).unlink()
    runs.path(out).write_bytes(content)
    runs.finish(out, "--resume")
    complaints = " ".join(capsys.readouterr().err.split())
    assert "the checksum of its" in complaints and "the previous checkpoint is used instead" in complaints
    runs.assert_equal("whole", out)


def test_results_are_printed_in_the_formats_of_other_tools(runs, capsys):
    """`--resume` of a finished run only prints its results again."""
    assert run(["train", *runs.words("whole"), "--resume", "--mllog"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(":::MLLOG {") for line in lines)
    assert [json.loads(line[9:])["key"] for line in lines].count("epoch_stop") == 4
    assert run(["train", *runs.words("whole"), "--resume"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["data_loading(%)"] >= 0 and 0 < result["mfu(%)"] < 100


def test_missing_cuda_is_reported_in_one_sentence(runs, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert run(["train", *runs.words("cuda"), "--device", "cuda"]) == 2
    assert "torch sees no CUDA device" in capsys.readouterr().err


@pytest.mark.alone
def test_a_rank_that_dies_ends_all_ranks(runs, capsys):
    """Within 30 seconds, and here in three."""
    process = runs.start("ranks", "--epochs", "500", ranks=2)
    try:
        runs.wait_for_checkpoint(process, "ranks")
        ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(ranks[-1]), signal.SIGKILL)
        killed = time.monotonic()
        process.communicate()
        assert time.monotonic() - killed < 30 and process.returncode != 0
    finally:
        process.kill()
    assert run(["train", *runs.words("ranks"), "--epochs", "500", "--resume"]) == 2
    assert "was written by 2 ranks, but this run has 1" in capsys.readouterr().err


def test_a_rank_that_cannot_measure_ends_all_ranks_once_the_run_is_saved(runs):
    """The other rank waits for it in a step, and would otherwise wait for ten minutes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python", sys.executable]
    words = ["train", *runs.words("unmeasurable"), "--epochs", "1", "--train-images", "64"]
    process = runs.popen(*launcher, "-c", UNMEASURABLE, *words)
    try:
        _, complaints = process.communicate(timeout=120)
    finally:
        process.terminate()
    assert process.returncode != 0 and "ceilings could not be measured on rank 1: no [counter] here" in complaints
    measured = runs.state("unmeasurable")["measured"]
    assert len(measured["training"]["losses"]) == 2 and measured["ceilings"] is None


def test_a_batch_that_the_ranks_cannot_split_is_named(runs):
    process = runs.start("unequal", "--batch", "31", ranks=2)
    _, complaints = process.communicate()
    assert process.returncode != 0 and "batch must be divisible by the number of ranks (2), got 31" in complaints
