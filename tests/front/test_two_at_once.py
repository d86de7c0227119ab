"""Two processes with the same output: the second one is refused in one sentence before it writes anything."""

import errno
import fcntl
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

from twoview.bench.config import recipe
from twoview.bench.config.experiment import Place
from twoview.bench.suites import runner
from twoview.bench.suites.gpu import suite as gpu_suite
from twoview.bench.suites.gpu.scale import TINY
from twoview.bench.suites.runner import Suite
from twoview.bench.training import search, train
from twoview.cli import run

# Another process, which holds the lock until its standard input ends.
OTHER = """
import sys
from pathlib import Path
from twoview.bench.runtime.locks import alone

with alone(Path(sys.argv[1]), "the file"):
    print("in", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(path):
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", OTHER, str(path)], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "in\n"
        yield rf"{path} is being written by another process \(pid {other.pid}\)"
        other.stdin.close()


def files(folder):
    return sorted(str(path) for path in folder.rglob("*") if not path.name.endswith(".lock"))


def test_a_second_run_of_the_same_recipe_is_refused(tmp_path, capsys):
    path = Place(tmp_path, tmp_path / "checkpoints", None).checkpoint(recipe.load("quick-fashion-mnist"))
    with held_by_another(path) as sentence:
        before = files(tmp_path)
        for words in ([], ["--resume"]):
            assert run(["train", "quick-fashion-mnist", "--out", str(tmp_path), *words]) == 2
            assert re.search(f"twoview: the checkpoint {sentence}", capsys.readouterr().err)
        assert files(tmp_path) == before


def test_only_the_first_rank_takes_the_lock(tmp_path, monkeypatch):
    one, asked = recipe.load("quick-fashion-mnist"), []
    monkeypatch.setattr(train, "_train", lambda *given: asked.append(given))
    place = Place(tmp_path, tmp_path / "checkpoints", None)
    with held_by_another(place.checkpoint(one)):
        monkeypatch.setenv("RANK", "1")
        train.train(one, place, resume=False)
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(BlockingIOError):
            train.train(one, place, resume=False)
    assert len(asked) == 1


def test_a_second_suite_in_the_same_folder_is_refused(tmp_path):
    place = Place(tmp_path / "betons", tmp_path / "checkpoints", None)
    folder = tmp_path / "evidence"
    folder.mkdir()
    with held_by_another(folder) as sentence:
        with pytest.raises(BlockingIOError, match=f"the folder {sentence}"):
            runner.run(Suite(recipes=("quick-fashion-mnist",)), folder, place, 1)
        with pytest.raises(BlockingIOError, match=f"the folder {sentence}"):
            gpu_suite.run(folder, place, 1, TINY, ["gpu-losses"])
    assert not files(folder)
    runner.run(Suite(), folder, place, 1)


def test_a_second_conversion_to_the_same_file_is_refused(tmp_path, capsys):
    path = tmp_path / "x.beton"
    with held_by_another(path) as sentence:
        for words in ([], ["--force"]):
            assert run(["convert", "photographs", str(path), *words]) == 2
            assert re.search(f"twoview: the file {sentence}", capsys.readouterr().err)
    assert not files(tmp_path)


SEARCHED = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 2
batch = 32
train_images = 64
precision = "fp32"
[method]
name = "simclr"
[search.ranges]
"optim.lr" = [0.01, 1.0, "log"]
"""


@pytest.fixture
def searched(tmp_path, fashion, monkeypatch):
    """A recipe to search, its folder and its data; all accuracies are the same."""
    (tmp_path / "s.toml").write_text(SEARCHED)
    (tmp_path / "betons").mkdir()
    os.link(fashion.path, tmp_path / "betons" / "fashion-mnist-train.beton")
    monkeypatch.setattr(search, "held_out_accuracy", lambda *_: 50.0)
    return recipe.load(str(tmp_path / "s.toml")), tmp_path, Place(tmp_path / "betons", tmp_path, None)


def states(study):
    return [row["state"] for row in search.outcome(study)["groups"]]


def test_the_trial_of_a_dead_process_fails_when_the_study_is_reopened(searched):
    one, folder, place = searched
    study = search.open_study(one, folder)
    for _ in range(3):
        study.ask()  # as if by processes that were killed, whose trials nobody locks
    with held_by_another(folder / search.RUNNING / "trial-1"):
        study = search.open_study(one, folder)
        assert states(study) == ["fail", "running", "fail"]
        assert [row["error"] for row in search.outcome(study)["groups"]] == [search.KILLED, None, search.KILLED]
    assert states(search.open_study(one, folder)) == ["fail"] * 3
    search.run(one, study, folder, 2, place)
    assert states(study) == ["fail"] * 3 + ["complete"] * 2, "killed trials do not count"
    assert not list((folder / search.RUNNING).iterdir())


def test_without_locks_no_trial_is_reported_as_killed(searched, monkeypatch):
    one, folder, _ = searched

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    search.open_study(one, folder).ask()
    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert states(search.open_study(one, folder)) == ["running"]


def test_reopening_the_study_does_not_fail_a_running_trial(searched, monkeypatch):
    one, folder, place = searched
    seen = []

    def accuracy(*_):
        other = [sys.executable, "-c", OPENED, str(folder)]
        seen.append(subprocess.run(other, capture_output=True, text=True, check=True).stdout.split())
        return 50.0

    monkeypatch.setattr(search, "held_out_accuracy", accuracy)
    search.run(one, search.open_study(one, folder), folder, 1, place)
    assert seen == [["running"]]


OPENED = """
import sys
from pathlib import Path
from twoview.bench.config import recipe
from twoview.bench.training import search

folder = Path(sys.argv[1])
print(*(row["state"] for row in search.outcome(search.open_study(recipe.load(f"{folder}/s.toml"), folder))["groups"]))
"""
