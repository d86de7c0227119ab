"""The pytest plugin on tests like a user's, each in its own pytest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from twoview.bench.regression import gate
from twoview.bench.regression.gate import Allowed

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
    """pytest-benchmark is off in workers of pytest-xdist, and would take a pytest inside one for a worker."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def project(pytester):
    """A user's project with a baseline `main`."""
    pytester.makepyfile(test_it=module())
    assert pytester.runpytest(*FAST, "--benchmark-save=main").ret == 0
    return pytester


def against_main(project, *words):
    return project.runpytest(*FAST, "--twoview-baseline=main", *words)


@pytest.mark.alone
def test_equal_results_pass_and_worse_ones_fail_in_one_sentence(project):
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
    assert against_main(project).ret == 0, "one point on 5,000 images may be chance"


def test_the_baseline_is_a_file_of_pytest_benchmark(project):
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest-benchmark"), "compare", "*_main", "--columns=median,rounds"],
        capture_output=True,
        text=True,
        cwd=project.path,
    )
    assert done.returncode == 0 and "test_work" in done.stdout
    assert project.runpytest(*FAST, "--benchmark-compare=0001").ret == 0


def test_a_missing_baseline_and_one_of_another_machine_are_named(project):
    missing = project.runpytest("--twoview-baseline=mai")
    where = f"{project.path / '.benchmarks'} (--benchmark-storage names another folder)"
    missing.stderr.fnmatch_lines([f"ERROR: no baseline mai in {where}: make it with pytest --benchmark-save=mai"])
    assert missing.ret == pytest.ExitCode.USAGE_ERROR

    disabled = against_main(project, "--benchmark-disable")
    disabled.stderr.fnmatch_lines(["*pytest-benchmark is disabled"])

    (saved,) = project.path.glob(".benchmarks/*/0001_main.json")
    content = json.loads(saved.read_text())
    content["benchmarks"][0]["extra_info"]["twoview"]["machine"] = "CPU, Z80 x1, 0 GiB"
    saved.write_text(json.dumps(content))
    other = against_main(project)
    other.stderr.fnmatch_lines(["ERROR: the baseline main was measured on another machine, CPU, Z80 x1, 0 GiB, and *"])
    assert other.ret == pytest.ExitCode.USAGE_ERROR


def test_a_test_that_the_baseline_lacks_is_a_warning(project):
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
    done.stdout.fnmatch_lines(["*batch must be 16 as in the baseline main, got None: not compared"])
    done.assert_outcomes(passed=1, warnings=1)


@pytest.mark.alone
def test_the_newest_baseline_with_a_name_counts(project):
    project.makepyfile(test_it=module(kib=2000))
    assert against_main(project).ret == 1
    assert project.runpytest(*FAST, "--benchmark-save=main").ret == 0
    assert against_main(project).ret == 0


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ("sped=0.1", "has no argument sped; it has recipe, speed, memory, accuracy"),
        ("speed=-1", "speed must be a share of at least 0, such as 0.1, got -1"),
        ("accuracy=float('nan')", "accuracy must be a share of at least 0, such as 0.1, got nan"),
        ("memory='ten percent'", "memory must be a share of at least 0, such as 0.1, got 'ten percent'"),
        ("3", "recipe must be a recipe's name, got 3"),
        ("'quick-fashion-mnist', 0.1", "takes one recipe, and the shares as keyword arguments"),
    ],
)
def test_an_invalid_marker_is_reported_in_one_sentence(pytester, marker, complaint):
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.twoview({marker})
        def test_it(twoview): twoview(sum, [1])
    """)
    done = pytester.runpytest(*FAST)
    done.assert_outcomes(errors=1)
    assert f"@pytest.mark.twoview {complaint}\n" in done.stdout.str() and "Traceback" not in done.stdout.str()


def test_an_unknown_recipe_is_reported_in_one_sentence(pytester):
    pytester.makepyfile("""
        import pytest

        @pytest.mark.twoview("quick-fashion-mnst")
        def test_it(twoview): twoview.run()
    """)
    said = pytester.runpytest(*FAST).stdout
    said.fnmatch_lines(["@pytest.mark.twoview: unknown recipe 'quick-fashion-mnst': did you mean quick-fashion-mnist*"])
    assert "Traceback" not in said.str()


@pytest.mark.parametrize(
    ("accuracy", "complaint"),
    [
        ("float('nan'), 100", "accuracy must be a percentage from 0 to 100, got nan"),
        ("101, 100", "accuracy must be a percentage from 0 to 100, got 101"),
        ("80, 0", "accuracy must be taken on at least 1 image, got 0"),
    ],
)
def test_an_invalid_accuracy_fails_the_test(pytester, accuracy, complaint):
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.twoview(accuracy=0.02)
        def test_it(twoview): twoview.accuracy({accuracy})
    """)
    done = pytester.runpytest(*FAST)
    done.stdout.fnmatch_lines([complaint])
    done.assert_outcomes(failed=1)


def test_a_measurement_that_a_test_no_longer_makes_is_named(project):
    lines = module().splitlines()
    project.makepyfile(test_it="\n".join(line for line in lines if "assert" not in line))
    done = against_main(project)
    done.stdout.fnmatch_lines(["*no time was measured in this test: its speed is not compared"])
    done.stdout.fnmatch_lines(["*no memory was measured in this test: its memory is not compared"])
    assert done.ret == 0


def test_an_accuracy_of_0_is_worse_and_a_missing_one_is_named(project):
    project.makepyfile(test_it=module(accuracy=0))
    against_main(project).stdout.fnmatch_lines(["*its accuracy is 0.00 %, 80.00 % before, and 2% less is allowed"])
    project.makepyfile(test_it=module().replace("twoview.accuracy(80.0, images=5000)", ""))
    against_main(project).stdout.fnmatch_lines(["*the baseline has accuracy, and this test did not measure it*"])


CLASS = """
import hashlib
import unittest

import pytest

class Work(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _measured(self, request):
        self.gate = request.getfixturevalue("twoview")

    @pytest.mark.twoview(memory=0.2)
    def test_work(self):
        self.gate(lambda: b"x" * ({mib} << 20))
"""


def test_a_unittest_that_requests_the_fixture_late_is_compared(pytester):
    pytester.makepyfile(test_it=CLASS.format(mib=1))
    assert pytester.runpytest(*FAST, "--benchmark-save=main").ret == 0
    assert against_main(pytester).ret == 0
    pytester.makepyfile(test_it=CLASS.format(mib=100))
    against_main(pytester).stdout.fnmatch_lines(["*it grows by * MiB, * before, and 20% more is allowed"])


def test_each_parameter_of_a_fixture_has_its_own_baseline(pytester):
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.fixture(params=["small", "large"])
        def accuracy(request): return {"small": 60, "large": 80}[request.param]

        @pytest.mark.twoview(accuracy=0.02)
        def test_it(twoview, accuracy):
            twoview(sum, [1])
            twoview.accuracy(accuracy, 5000)
    """
    )
    assert pytester.runpytest(*FAST, "--benchmark-save=main").ret == 0
    against_main(pytester).assert_outcomes(passed=2)


RANDOMLY = """
import random
import numpy as np
import pytest

def reseed():
    random.seed(7)
    np.random.seed(7)

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items):
    items.reverse()
    return (yield)

def pytest_runtest_setup(item): reseed()
def pytest_runtest_call(item): reseed()
def pytest_runtest_teardown(item): reseed()
"""
SAME_WORK = """
import numpy as np
import pytest

KEPT = []

def work():
    if not KEPT:
        KEPT.append(np.ones(30 << 17))  # allocated once, by the first test
    return np.ones(20 << 17).sum()

@pytest.mark.twoview(memory=0.2)
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_work(twoview, name):
    assert twoview(work) == 20 << 17
"""


def test_order_seeds_and_selection_make_no_difference(pytester):
    """As with pytest-randomly; the 20 MiB that a test adds do not depend on the tests before it."""
    pytester.makepyfile(test_it=SAME_WORK)
    assert pytester.runpytest(*FAST, "--benchmark-save=main").ret == 0
    (saved,) = pytester.path.glob(".benchmarks/*/0001_main.json")
    tests = json.loads(saved.read_text())["benchmarks"]
    assert [test["extra_info"]["twoview"]["added_mib"] for test in tests] == pytest.approx([20] * 3, abs=2)
    against_main(pytester, "-k", "c").assert_outcomes(passed=1, deselected=2)
    pytester.makeconftest(RANDOMLY)
    done = against_main(pytester, "-v")
    done.stdout.fnmatch_lines(["*test_work?c? PASSED*", "*test_work?b? PASSED*", "*test_work?a? PASSED*"])
    done.assert_outcomes(passed=3)


ACCURATE = """
import pytest

@pytest.mark.twoview(accuracy=0.02)
def test_it(twoview):
    twoview(sum, [1])
    twoview.accuracy({accuracy}, 5000)
"""


@pytest.fixture
def folders(pytester):
    """The folders `a` and `b` of a project, each with a test of the same name, and an ini file next to them."""
    for name, accuracy in (("a", 60), ("b", 80)):
        folder = pytester.mkpydir(name)
        (folder / "test_it.py").write_text(ACCURATE.format(accuracy=accuracy))
    pytester.makeini("[pytest]\n")
    return pytester


def test_a_baseline_is_found_from_a_subfolder_and_from_outside_with_another_ini_file(
    folders, monkeypatch, tmp_path_factory
):
    assert folders.runpytest(*FAST, "--benchmark-save=main").ret == 0
    storage = f"--benchmark-storage={folders.path / '.benchmarks'}"
    other = folders.makefile(".ini", other="[pytest]\naddopts = -p no:cacheprovider\n")
    outside = tmp_path_factory.mktemp("outside")
    for place, words in ((folders.path / "a", ()), (outside, ("-c", other, folders.path / "b"))):
        monkeypatch.chdir(place)
        against_main(folders, storage, *words).assert_outcomes(passed=1)
    assert list(outside.iterdir()) == []


def test_tests_outside_rootdir_are_distinct_and_leave_no_files_there(folders, tmp_path_factory):
    """There pytest calls both tests `::test_it`."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    words = (f"--rootdir={elsewhere}", "-p", "no:cacheprovider")
    assert folders.runpytest(*FAST, *words, "--benchmark-save=main", "a/test_it.py", "b/test_it.py").ret == 0
    against_main(folders, *words, "a/test_it.py").assert_outcomes(passed=1)
    (folders.path / "b" / "test_it.py").write_text(ACCURATE.format(accuracy=60))
    done = against_main(folders, *words, "b/test_it.py", "a/test_it.py")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*its accuracy is 60.00 %, 80.00 % before, and 2% less is allowed"])
    assert list(elsewhere.iterdir()) == []


def test_a_baseline_of_another_rootdir_is_named(folders, tmp_path_factory):
    assert folders.runpytest(*FAST, "--benchmark-save=main", "a").ret == 0
    done = against_main(folders, f"--rootdir={tmp_path_factory.mktemp('elsewhere')}", "a", "b")
    moved = "has a/test_it.py::test_it and not ../*/a/test_it.py::test_it, which may be the same test with *rootdir"
    unknown = "does not have this test"
    done.stdout.fnmatch_lines([f"*the baseline main {words}: not compared" for words in (moved, unknown)])
    done.assert_outcomes(passed=2, warnings=2)


def test_a_recipes_path_is_relative_to_the_tests_folder(folders, monkeypatch):
    test = '@pytest.mark.twoview("tiny.toml")\ndef test_it(twoview): twoview.run()\n'
    (folders.path / "a" / "test_it.py").write_text(f"import pytest\n{test}")
    monkeypatch.chdir(folders.path / "b")
    said = f"@pytest.mark.twoview: no recipe file at {folders.path / 'a' / 'tiny.toml'}"
    folders.runpytest(*FAST, "../a").stdout.fnmatch_lines([said])
    (folders.path / "a" / "tiny.toml").write_text('source = "here"\n')
    folders.runpytest(*FAST, "../a").stdout.fnmatch_lines([f"@pytest.mark.twoview: {folders.path}/a/tiny.toml: *"])


def test_datasets_are_kept_in_pytests_cache_if_it_has_one(pytester):
    assert gate.betons_folder(pytester.parseconfigure()) == pytester.path / ".pytest_cache" / "d" / "twoview-betons"
    assert gate.betons_folder(pytester.parseconfigure("-p", "no:cacheprovider")) is None


def test_missing_pytest_benchmark_and_xdist_are_named(pytester):
    pytester.makepyfile(test_it=module(), test_other="def test_other(): pass")
    off = pytester.runpytest("-p", "no:benchmark")
    off.stdout.fnmatch_lines(["*the fixture twoview needs pytest-benchmark, which is not installed or is off"])
    off.assert_outcomes(passed=1, errors=1)
    with_xdist = pytester.runpytest_subprocess("-n", "1", "--twoview-baseline=main")
    assert with_xdist.ret == pytest.ExitCode.USAGE_ERROR
    assert "pytest-benchmark is disabled" in with_xdist.stderr.str() and "Traceback" not in with_xdist.stderr.str()


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
def test_a_recipes_steps_and_accuracy_are_measured(twoview, betons, tmp_path, monkeypatch):
    """In this process, because a nested pytest would import torch's compiler twice, which torch forbids."""
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    twoview.allowed = Allowed(recipe=str(path), accuracy=0.5)
    twoview.benchmark.disabled = False
    monkeypatch.setattr(gate, "betons_folder", lambda config: betons)
    twoview.run()
    measured = twoview.measured
    assert len(twoview.benchmark.stats.stats.data) == gate.ROUNDS and measured["peak_mib"] > 100
    assert set(measured["accuracy"]) == {"kNN top-1", "linear top-1"} and measured["recipe"]["batch"] == 16


def test_the_plugin_imports_nothing_unless_it_is_used(pytester):
    """Neither torch nor anything of ours is imported."""
    pytester.makepyfile("""
        import sys

        def test_it():
            assert "twoview.pytest_plugin" in sys.modules
            assert not {"torch", "twoview.bench", "numpy"} & set(sys.modules)
    """)
    assert pytester.runpytest_subprocess().ret == 0
