"""A suite survives being killed: no finished record is lost, no finished step repeated."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from twoview.bench import evidence
from twoview.bench.config import assran2023, experiment, recipe
from twoview.bench.config.experiment import Place
from twoview.bench.suites import runner
from twoview.bench.suites.runner import LoaderWork, Suite, run
from twoview.bench.training import search, train

TINY = """
source = "a test"
dataset = "fashion-mnist"
views = "{views}"
size = 28
epochs = 3
batch = 32
train_images = 128
precision = "fp32"
[method]
name = "{method}"
[backbone]
width = 8
[probe]
train_images = 200
test_images = 100
"""


@pytest.fixture
def tiny(tmp_path):
    """A suite of two tiny recipes and one loader measurement without peers."""
    names = []
    for method, views in (("simclr", "simclr-gray"), ("supervised", "supervised-small")):
        path = tmp_path / f"tiny-{method}.toml"
        path.write_text(TINY.format(method=method, views=views))
        names.append(str(path))
    return Suite((LoaderWork("fashion-mnist", "crops", 28, images=64, peers=(), rounds=2),), tuple(names))


@pytest.fixture
def place(tmp_path, betons):
    return Place(betons, tmp_path / "out" / "checkpoints", None)


def test_every_step_leaves_a_record_once(tiny, place, tmp_path, monkeypatch):
    folder = tmp_path / "out" / "evidence"
    with monkeypatch.context() as here:  # only the runs that are killed need their own process
        here.setattr(runner, "_train_in_own_process", train_here)
        run(tiny, folder, place, seeds=2)
    records, complaints = evidence.read_folder(folder)
    assert not complaints
    subjects = sorted((r.subject, r.seed) for r in records if isinstance(r, evidence.Run))
    assert subjects == [("pixels", 0), *[("trained", s) for s in (0, 0, 1, 1)], ("untrained", 0), ("untrained", 1)]
    for record in records:
        if isinstance(record, evidence.Run) and record.subject == "trained":
            assert len(record.training.epoch_seconds) == 3 and len(record.training.losses) == 12
            assert record.recipe["seed"] == record.seed and record.recipe["dataset"] == "fashion-mnist"
            views = 2 if record.recipe["method"]["name"] == "simclr" else 1
            assert record.training.views_per_epoch == 128 * views
            assert 0 < record.accuracy.knn_top1 <= 100 and record.ceilings.loader > 0 and record.ceilings.model > 0
        if isinstance(record, evidence.LoaderRates):
            assert len(record.images_per_s["twoview"]) == 2

    before = {file: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(runner, "_train_in_own_process", None)
    monkeypatch.setattr(runner.judging, "_probe", None)
    monkeypatch.setattr(runner.rates, "measure", None)
    run(tiny, folder, place, seeds=2)
    assert before == {file: file.read_bytes() for file in folder.iterdir()}

    path = tmp_path / "tiny-simclr.toml"
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 4"))
    with pytest.raises(
        ValueError, match=r"^epochs must be 3 as in .*tiny-simclr-seed0\.json, got 4: use another --out$"
    ):
        run(tiny, folder, place, seeds=2)


def train_here(one, place):
    train.train(one, place, resume=True)


def test_a_recipe_is_tuned_once_for_all_its_seeds(place, tmp_path, monkeypatch):
    """With the best values of the search, which count as the same settings when the suite runs again."""
    path = tmp_path / "tuned.toml"
    ranges = '[search]\nepochs = 1\n[search.ranges]\n"optim.lr" = [0.01, 1.0, "log"]\n'
    path.write_text(TINY.format(method="simclr", views="simclr-gray") + ranges)
    one, folder = recipe.load(str(path)), tmp_path / "out" / "evidence"
    monkeypatch.setattr(runner, "_train_in_own_process", train_here)
    for _ in range(2):
        runner.run_steps(runner.trainings([one], place, seeds=2, trials=3), folder, place)
        monkeypatch.setattr(search, "run", None)
    trained = [record for record in evidence.read_folder(folder)[0] if record.subject == "trained"]
    best = search.outcome(search.open_study(one, tmp_path / "out" / "search" / "tuned"))["best"]
    assert [record.recipe["optim"]["lr"] for record in trained] == [best["values"]["optim.lr"]] * 2
    assert best["values"]["optim.lr"] != one.optim.lr and {record.seed for record in trained} == {0, 1}
    with pytest.raises(ValueError, match=r"epochs must be 3 as in .*tuned-seed0\.json, got 2: use another --out"):
        other = one.model_copy(update={"epochs": 2})
        runner.run_steps(runner.trainings([other], place, seeds=2, trials=3), folder, place)


def test_an_unknown_suite_error_suggests_the_nearest_name():
    with pytest.raises(ValueError, match=r"'quik': did you mean quick\?"):
        runner.suite("quik")


@pytest.mark.parametrize(("name", "classes"), [("imbalance", (2, 5, 10, 100)), ("imbalance-tiny", (2, 10))])
def test_an_imbalance_suite_varies_only_the_classes_per_batch(name, classes):
    ones = {one: recipe.load(one) for one in runner.suite(name).recipes}
    swept = [one for one in ones.values() if one.classes_per_batch and getattr(one.method, "prior", "") != "uniform"]
    settings = {}
    for one in swept:
        assert one.name.endswith(f"-k{one.classes_per_batch}")
        rest = one.model_dump(mode="json", exclude=recipe.ABOUT | {"name", "classes_per_batch"})
        settings.setdefault(one.method.name, []).append((one.classes_per_batch, rest))
    assert tuple(settings) == assran2023.METHODS
    for runs in settings.values():
        assert tuple(k for k, _ in runs) == classes and all(rest == runs[0][1] for _, rest in runs)
    assert len({(one.epochs, one.train_images, one.batch) for one in swept}) == 1, "the same images and steps"


def test_the_tiny_imbalance_suite_is_fair_and_says_that_it_is_too_small():
    ones = [recipe.load(name) for name in runner.suite("imbalance-tiny").recipes]
    assert len({(one.dataset, one.backbone, one.optim, one.probe, one.batch) for one in ones}) == 1
    assert all("too small to draw conclusions from" in one.source for one in ones)
    tail = next(one for one in ones if one.name == "imbalance-msn-lt")
    swept = recipe.load("imbalance-msn-k10")
    kept = experiment.train_images(tail, np.arange(50_000) % 10)
    assert len(kept) // tail.batch == swept.train_images // swept.batch, "the same number of steps per epoch"
    msn, pmsn = (recipe.load(f"imbalance-{name}-lt") for name in ("msn", "pmsn"))
    prior = {"name", "prior", "exponent", "marginal"}
    assert msn.method.model_dump(exclude=prior) == pmsn.method.model_dump(exclude=prior)


PROGRAM = """
import sys
from pathlib import Path
from twoview.bench.config.experiment import Place
from twoview.bench.suites.runner import Suite, run
betons, out = map(Path, sys.argv[1:3])
run(Suite((), tuple(sys.argv[3:])), out / "evidence", Place(betons, out / "checkpoints", None), 1)
"""


def start(recipes, betons, out):
    command = [sys.executable, "-c", PROGRAM, str(betons), str(out), *recipes]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def finished(out):
    """Record -> its content, which must be complete JSON."""
    contents = {file.name: file.read_bytes() for file in (out / "evidence").glob("*.json")}
    for content in contents.values():
        json.loads(content)
    return contents


def kill_and_run_again(recipes, betons, out, moments):
    """Kill the suite at each of the moments, then run it to the end; finished records must not change."""
    kept = {}
    for wait in moments:
        process = start(recipes, betons, out)
        wait(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = finished(out)
        assert kept.items() <= now.items()
        kept = now
    assert start(recipes, betons, out).wait() == 0
    now = finished(out)
    assert kept.items() <= now.items() and len(now) == 2 + len(recipes)
    assert list(out.rglob(".*")) == [], "partial files of killed processes are removed"
    records, complaints = evidence.read_folder(out / "evidence")
    assert not complaints
    for record in records:
        if record.subject == "trained":
            assert len(record.training.epoch_seconds) == 3 and len(record.training.losses) == 12


@pytest.mark.long
def test_a_suite_killed_twice_finishes_when_run_again(tiny, betons, tmp_path):
    """While it trains, and between two records."""
    out = tmp_path / "out"

    def until(pattern):
        def wait(process):
            while not list(out.glob(pattern)):
                assert process.poll() is None
                time.sleep(0.02)

        return wait

    kill_and_run_again(tiny.recipes[:1], betons, out, [until("checkpoints/*.pt"), until("evidence/*.json")])


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_simclr_beats_the_untrained_encoder_by_three_points_in_each_of_three_seeds(place, tmp_path):
    """The claim of the quick suite, on Fashion-MNIST."""
    folder = tmp_path / "out" / "evidence"
    run(Suite((), ("quick-fashion-mnist",)), folder, place, seeds=3)
    records, _ = evidence.read_folder(folder)
    knn = {(record.subject, record.seed): record.accuracy.knn_top1 for record in records}
    gains = [knn["trained", seed] - knn["untrained", seed] for seed in range(3)]
    assert min(gains) >= 3, gains


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_a_suite_killed_five_times_finishes_when_run_again(tiny, betons, tmp_path, seed):
    random_moments = random.Random(seed)
    moments = [lambda process: time.sleep(random_moments.uniform(3, 12)) for _ in range(5)]
    kill_and_run_again(tiny.recipes, betons, tmp_path / "out", moments)
