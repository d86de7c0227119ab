"""The pytest plugin on tests like a user's, each in a pytest of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import gate
from bench.gate import Allowed

pytest_plugins = ["pytester"]

TEST = """
import hashlib
import pytest

@pytest.mark.twoview(speed=2, memory=0.2, accuracy=0.02)
def test_work(twoview):
    held = bytes({mib} << 20)
    assert twoview(lambda: (bytearray(held), hashlib.sha256(bytes({kib} << 10)).digest())[1])
    twoview.accuracy({accuracy}, images=5000)
"""
FAST = ("--benchmark-max-time=0.05", "--benchmark-min-rounds=20", "--benchmark-disable-gc")


def module(kib=100, mib=1, accuracy=80.0):
    return TEST.format(kib=kib, mib=mib, accuracy=accuracy)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """pytest-benchmark measures nothing in a process of pytest-xdist, and takes one inside it for such a one."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def project(pytester):
    """A project of a user's with a baseline `main`."""
    pytester.makepyfile(test_it=module())
    assert pytester.runpytest(*FAST, "--benchmark-save=main").ret == 0
    return pytester


def against_main(project, *words):
    return project.runpytest(*FAST, "--twoview-baseline=main", *words)


@pytest.mark.alone
def test_what_is_as_good_passes_and_what_is_worse_fails_in_one_sentence(project):
    assert against_main(project).ret == 0
    (saved,) = project.path.glob(".benchmarks/*/0001_main.json")
    (test,) = json.loads(saved.read_text())["benchmarks"]
    assert len(test["stats"]["data"]) >= 20 and test["extra_info"]["twoview"]["accuracy"] == {"accuracy": [80.0, 5000]}

    project.makepyfile(test_it=module(kib=2000))
    slow = against_main(project)
    slow.stdout.fnmatch_lines(["worse than the baseline main: it takes * times as long (* to *), and 3 is allowed"])
    assert slow.ret == 1 and "Traceback" not in slow.stdout.str()

    project.makepyfile(test_it=module(mib=400))
    against_main(project).stdout.fnmatch_lines(["*it grows by * MiB, * before, and 20% more is allowed"])

    project.makepyfile(test_it=module(accuracy=70.0))
    lost = against_main(project)
    lost.stdout.fnmatch_lines(["*its accuracy is 70.00 %, 80.00 % before, and 2% less is allowed"])
    assert lost.ret == 1
    project.makepyfile(test_it=module(accuracy=79.0))
    assert against_main(project).ret == 0, "a point on 5,000 images is within their chance"


def test_the_baseline_is_one_of_pytest_benchmarks_own(project):
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest-benchmark"), "compare", "*_main", "--columns=median,rounds"],
        capture_output=True,
        text=True,
        cwd=project.path,
    )
    assert done.returncode == 0 and "test_work" in done.stdout
    assert project.runpytest(*FAST, "--benchmark-compare=0001").ret == 0


def test_a_baseline_that_is_not_there_or_not_this_machines_is_named(project):
    missing = project.runpytest("--twoview-baseline=mai")
    missing.stderr.fnmatch_lines(["ERROR: no baseline mai in *: make it by pytest --benchmark-save=mai"])
    assert missing.ret == pytest.ExitCode.USAGE_ERROR

    disabled = against_main(project, "--benchmark-disable")
    disabled.stderr.fnmatch_lines(["*pytest-benchmark is disabled"])

    (saved,) = project.path.glob(".benchmarks/*/0001_main.json")
    content = json.loads(saved.read_text())
    content["benchmarks"][0]["extra_info"]["twoview"]["machine"] = "CPU, Z80 x1, 0 GiB"
    saved.write_text(json.dumps(content))
    other = against_main(project)
    other.stderr.fnmatch_lines(["ERROR: the baseline main is of another machine, CPU, Z80 x1, 0 GiB, and this is *"])
    assert other.ret == pytest.ExitCode.USAGE_ERROR


def test_a_test_that_the_baseline_does_not_have_is_a_warning(project):
    project.makepyfile(test_new=module())
    done = against_main(project)
    done.stdout.fnmatch_lines(["*the baseline main does not have this test: not compared"])
    done.assert_outcomes(passed=2, warnings=1)


def test_another_recipe_is_not_compared(project):
    (saved,) = project.path.glob(".benchmarks/*/0001_main.json")
    content = json.loads(saved.read_text())
    content["benchmarks"][0]["extra_info"]["twoview"]["recipe"] = {"batch": 16}
    saved.write_text(json.dumps(content))
    done = against_main(project)
    done.stdout.fnmatch_lines(["*the baseline main is of another recipe: not compared"])
    done.assert_outcomes(passed=1, warnings=1)


@pytest.mark.alone
def test_the_newest_of_a_name_counts(project):
    project.makepyfile(test_it=module(kib=2000))
    assert against_main(project).ret == 1
    assert project.runpytest(*FAST, "--benchmark-save=main").ret == 0
    assert against_main(project).ret == 0


def test_a_marker_is_needed(pytester):
    pytester.makepyfile("def test_it(twoview): pass")
    pytester.runpytest().stdout.fnmatch_lines(["*the fixture twoview needs the marker @pytest.mark.twoview(...)"])


RECIPE = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 1
batch = 16
train_images = 32
precision = "fp32"
loader_threads = 1
method = {name = "simclr", hidden = 16, projection = 8}
backbone = {width = 8}
probe = {train_images = 100, test_images = 100, k = 20}
"""


@pytest.mark.long
@pytest.mark.twoview()
def test_a_recipes_steps_and_accuracy(twoview, betons, tmp_path, monkeypatch):
    """In this process: a pytest inside would import torch's compiler a second time, which it forbids."""
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    twoview.allowed = Allowed(str(path), accuracy=0.5)
    twoview.benchmark.disabled = False
    monkeypatch.setattr(gate, "betons_folder", lambda config: betons)
    twoview.run()
    measured = twoview.measured
    assert len(twoview.benchmark.stats.stats.data) == gate.ROUNDS and measured["peak_mib"] > 100
    assert set(measured["accuracy"]) == {"kNN top-1", "linear top-1"} and measured["recipe"]["batch"] == 16


def test_a_run_that_does_not_use_it_does_not_pay_for_it(pytester):
    """Neither torch nor anything of ours is imported."""
    pytester.makepyfile("""
        import sys

        def test_it():
            assert "pytest_twoview" in sys.modules
            assert not {"torch", "bench", "bench.gate", "numpy"} & set(sys.modules)
    """)
    assert pytester.runpytest_subprocess().ret == 0
