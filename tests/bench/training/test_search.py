"""A search is shared by processes, survives a kill, continues up to N, prunes, and never uses the test images."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import optuna
import pytest
from PIL import Image

from twoview.bench.config import recipe
from twoview.bench.config.experiment import Place
from twoview.bench.config.search_space import Search
from twoview.bench.training import search
from twoview.cli import run

TINY = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 3
batch = 32
train_images = 64
precision = "fp32"
loader_threads = 1
[method]
name = "simclr"
[backbone]
width = 8
[probe]
train_images = 200
test_images = 100
[search]
epochs = 2
[search.ranges]
"optim.lr" = [0.01, 1.0, "log"]
"method.temperature" = [0.1, 0.5]
batch = [16, 32, "linear"]
"""


@pytest.fixture
def tiny(tmp_path, fashion):
    """A recipe to search, in a folder with 2,000 training images and no test images."""
    (tmp_path / "out" / "betons").mkdir(parents=True)
    os.link(fashion.path, tmp_path / "out" / "betons" / "fashion-mnist-train.beton")
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def command(trials):
    words = ["search", "tiny.toml", "--out", "out", "--trials", str(trials), "--json"]
    return [sys.executable, "-P", "-m", "twoview", *words]


def finished(folder):
    """Return how many trials have finished according to the journal."""
    journal = folder / "out" / "study.journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return sum('"state":1' in line or '"state":2' in line for line in lines)


@pytest.mark.long
def test_two_processes_share_a_study_and_one_is_killed(tiny, monkeypatch, capsys):
    log = (tiny / "log").open("w")
    options = {"cwd": tiny, "stdout": subprocess.PIPE, "stderr": log, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    first, second = (subprocess.Popen(command(6), **options) for _ in range(2))
    while finished(tiny) < 2:
        assert first.poll() is None and second.poll() is None, (tiny / "log").read_text()
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    result = json.loads(second.communicate()[0])
    assert second.returncode == 0, (tiny / "log").read_text()
    groups = result["groups"]
    done = [group for group in groups if group["state"] in ("complete", "pruned")]
    assert len(done) in (6, 7), "two that search together may end with one trial too many"
    assert len(groups) - len(done) == result["trials"]["running"] <= 1, "the killed process lost only its own trial"
    assert sorted(group["number"] for group in groups) == list(range(len(groups)))
    assert result["best"]["top1"] == max(group["top1"] for group in groups if group["state"] == "complete")
    assert (tiny / "out" / "search.svg").read_text().count("<svg") == 1

    monkeypatch.chdir(tiny)
    assert run(["search", "tiny.toml", "--out", "out", "--trials", "7", "--json"]) == 0
    more = json.loads(capsys.readouterr().out)["groups"]
    assert [group for group in more if group["number"] in {one["number"] for one in done}] == done
    assert sum(group["state"] in ("complete", "pruned") for group in more) == 7, "a second run continues up to N"
    start = recipe.load(str(tiny / "tiny.toml"))
    study = optuna.create_study()
    for group in more:
        study.sampler = optuna.samplers.RandomSampler(search.seed_of(start, group["number"]))
        values = search.draw(study.ask(), start.search)
        if group["state"] in ("running", "fail"):  # killed, maybe between two of its values
            values = {key: values[key] for key in group["values"]}
        assert group["values"] == values, "a group is a pure function of seed and number"


@pytest.mark.filterwarnings("ignore:The value of `grace_period`")
def test_the_lock_of_a_killed_process_is_broken(tiny, monkeypatch):
    monkeypatch.setattr(search, "LOCK_SECONDS", 1)
    (tiny / "out" / "study.journal.lock").touch()
    start = time.monotonic()
    search.open_study(recipe.load(str(tiny / "tiny.toml")), tiny / "out")
    assert time.monotonic() - start > 1 and not (tiny / "out" / "study.journal.lock").exists()


def test_a_loss_that_is_not_finite_fails_only_its_trial(tiny, capsys, monkeypatch):
    monkeypatch.chdir(tiny)
    text = TINY.replace('[0.01, 1.0, "log"]', "[1e-2, 1e30]").replace('batch = [16, 32, "linear"]', "")
    (tiny / "tiny.toml").write_text(text)
    assert run(["search", "tiny.toml", "--out", "out", "--trials", "4", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert {group["state"] for group in groups if group["values"]["optim.lr"] == 1e30} == {"fail"}
    assert {group["state"] for group in groups if group["values"]["optim.lr"] == 1e-2} <= {"complete", "pruned"}
    assert all("finite" in group["error"] or "loss is" in group["error"] for group in groups if group["error"])


def test_a_bad_trial_is_pruned(tiny, monkeypatch):
    """Successive halving over eight epochs, with given accuracies."""
    start = recipe.load(str(tiny / "tiny.toml"))
    start = start.model_copy(update={"search": start.search.model_copy(update={"epochs": 8})})
    accuracies = iter([50.0, 60.0, 10.0, 5.0])

    def pretend(one, place, what, on_epoch):
        top1 = next(accuracies)
        for epoch in range(1, one.epochs + 1):
            on_epoch(epoch, top1)
        return top1

    monkeypatch.setattr(search, "held_out_accuracy", pretend)
    study = search.open_study(start, tiny / "out")
    search.run(start, study, tiny / "out", 4, Place(tiny / "out" / "betons", tiny, None))
    rows = search.outcome(study)["groups"]
    assert [row["state"] for row in rows] == ["complete", "complete", "pruned", "pruned"]
    assert len(rows[2]["top1_by_epoch"]) == 1 and rows[2]["top1"] == 10


def test_held_out_images_are_never_trained_on(tiny, monkeypatch):
    start = recipe.load(str(tiny / "tiny.toml"))
    seen = {"train": set(), "eval": set()}
    extract, train_loader = search.extract, search.experiment.train_loader

    def spy_extract(encode, loader, *rest):
        seen["eval" if len(loader.indices) == 100 else "bank"] = set(loader.indices.tolist())
        return extract(encode, loader, *rest)

    def spy_loader(*given):
        loader = train_loader(*given)
        seen["train"] = set(loader.indices.tolist())
        return loader

    monkeypatch.setattr(search, "extract", spy_extract)
    monkeypatch.setattr(search.experiment, "train_loader", spy_loader)
    place = Place(tiny / "out" / "betons", tiny / "out" / "checkpoints", None)
    epochs = []
    top1 = search.held_out_accuracy(start, place, "a trial", lambda epoch, _: epochs.append(epoch))
    assert 0 < top1 <= 100 and epochs == [1, 2, 3]
    assert len(seen["train"]) == 64 and len(seen["eval"]) == 100 and len(seen["bank"]) == 200
    assert not seen["eval"] & (seen["train"] | seen["bank"])
    assert not (tiny / "out" / "betons" / "fashion-mnist-test.beton").exists()


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        ('"optim.lrr" = [0.1, 1.0, "log"]', "optim.lrr is not a key of the recipe"),
        ('"optim.lr.deep" = [0.1, 1.0, "log"]', "optim.lr.deep is not a key of the recipe"),
        ('"optim.lr" = [1.0, 0.1, "log"]', "a log range must have two ascending numbers, got 1.0 and 0.1"),
        ('"optim.lr" = [0.0, 0.1, "log"]', "a log range must start above 0"),
        ('"optim.lr" = []', "optim.lr"),
        ('"method.temperature" = [0.1, -1.0]', "tiny with method.temperature -1.0: method.temperature"),
        ("", "tiny has no [search.ranges]"),
    ],
)
def test_a_bad_range_is_reported_in_one_sentence(tiny, monkeypatch, capsys, ranges, complaint):
    monkeypatch.chdir(tiny)
    (tiny / "tiny.toml").write_text(TINY.partition("[search.ranges]")[0] + "[search.ranges]\n" + ranges)
    assert run(["search", "tiny.toml", "--out", "out", "--trials", "1"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_study_of_another_recipe_is_an_error(tiny):
    start = recipe.load(str(tiny / "tiny.toml"))
    search.open_study(start, tiny / "out")
    other = start.model_copy(update={"search": Search(ranges={"optim.lr": [0.1, 1]})})
    with pytest.raises(
        ValueError,
        match=r"as in .*; search\.ranges\.optim\.lr must be \[0\.01, .*, got \[0\.1, 1\]; .*: use another --out$",
    ):
        search.open_study(other, tiny / "out")
    search.open_study(start, tiny / "out")


def test_a_study_of_other_images_of_the_same_name_is_an_error(tiny, monkeypatch, capsys):
    for number in range(12):
        path = tiny / "pets" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 30), (20 * number, 0, 0)).save(path)
    (tiny / "tiny.toml").write_text(TINY.replace('dataset = "fashion-mnist"', 'data = "pets"'))
    monkeypatch.chdir(tiny)
    monkeypatch.setattr(search, "held_out_accuracy", lambda *_: 50.0)
    words = ["search", "tiny.toml", "--out", "out", "--json", "--trials"]
    assert run([*words, "1"]) == 0 and run([*words, "2"]) == 0
    Image.new("RGB", (30, 30), (0, 0, 99)).save(tiny / "pets" / "a" / "0.png")
    assert run([*words, "3"]) == 2
    assert re.search(r"dataset must be 'own:pets-\w{8}' as in out, got 'own:pets-\w{8}'", capsys.readouterr().err)


def test_a_study_does_not_begin_before_its_images_are_read(tiny):
    start = recipe.parse({**recipe.load(str(tiny / "tiny.toml")).model_dump(mode="json"), "data": "pets"}, "tiny")
    with pytest.raises(ValueError, match="tiny: the images at pets must be read first"):
        search.open_study(start, tiny / "out")


@pytest.mark.parametrize("start_from", [{}, {"checkpoint": "encoder.pt", "sha256": "0" * 64}])
def test_a_study_of_an_earlier_version_lacks_newer_keys_and_continues(tiny, start_from):
    """They have their defaults: another value is a difference."""
    values = recipe.load(str(tiny / "tiny.toml")).model_dump(mode="json")
    start = recipe.parse(values | {"backbone": values["backbone"] | start_from}, "tiny")
    study = search.open_study(start, tiny / "out")
    stored = study.user_attrs["recipe"]
    study.set_user_attr("recipe", {key: stored[key] for key in stored if key not in ("accumulate", "normalize")})
    search.open_study(start, tiny / "out")
    with pytest.raises(ValueError, match=r"^accumulate must be 1 as in .*, got 2: use another --out$"):
        search.open_study(start.model_copy(update={"accumulate": 2}), tiny / "out")


def test_integer_ranges_give_integers():
    ranges = Search(ranges={"a": [2, 5, "linear"], "b": [1, 64, "log"], "c": [0.5, 1, "linear"], "d": ["x", True, 3]})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    groups = [search.draw(study.ask(), ranges) for _ in range(50)]
    assert {group["a"] for group in groups} == {2, 3, 4, 5} and all(isinstance(group["b"], int) for group in groups)
    assert all(0.5 <= group["c"] <= 1 for group in groups) and {group["d"] for group in groups} == {"x", True, 3}
