"""A pytest plugin: tests of yours fail where they have lost more speed, memory or accuracy than you allow.

    @pytest.mark.twoview("quick-fashion-mnist", speed=0.10, memory=0.10, accuracy=0.02)
    def test_simclr(twoview):
        twoview.run()  # the recipe's training steps in a process of their own; trained and judged for the accuracy

    @pytest.mark.twoview(speed=0.10)
    def test_collate(twoview):
        assert twoview(collate, images).shape == (64, 3, 32, 32)  # any function, timed as pytest-benchmark does it

`pytest --benchmark-save=NAME` makes the baseline, a file of pytest-benchmark's storage, and
`pytest --twoview-baseline=NAME` compares with the newest of that name. That storage is `.benchmarks` of the folder in
which pytest is started, or what `--benchmark-storage` names. A test is known by its path from pytest's rootdir.

A recipe is a name of `twoview list recipes` or a path to a TOML file, from the folder of the test's file. The memory of
a function is what one call takes after those that were timed, so that the order of the tests does not matter.

pytest loads this module in every project, so `bench/regression/gate.py` is imported only where it is used.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from twoview.bench.regression.gate import Gate


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("twoview").addoption(
        "--twoview-baseline",
        metavar="NAME",
        help="fail tests marked `twoview` that lost more than they may against the newest saved --benchmark-save=NAME",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "twoview(recipe=None, speed=None, memory=None, accuracy=None): measured by the fixture `twoview`; the shares"
        " that may be lost against --twoview-baseline",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    if name := session.config.getoption("twoview_baseline"):
        from twoview.bench.regression.gate import BASELINE, baseline

        session.config.stash[BASELINE] = baseline(session.config, name)


GATE = pytest.StashKey["Gate"]()


@pytest.fixture
def twoview(request: pytest.FixtureRequest) -> "Iterator[Gate]":
    """`twoview.run()` for the marked recipe, `twoview(function, ...)` for a function, `twoview.accuracy(...)`."""
    if not request.config.pluginmanager.hasplugin("benchmark"):
        pytest.fail("the fixture twoview needs pytest-benchmark, which is not installed or is off", pytrace=False)
    from twoview.bench.regression.gate import Gate

    with Gate(request, request.getfixturevalue("benchmark")) as gate:
        request.node.stash[GATE] = gate
        yield gate


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """The comparison is part of the test, so that the test fails and not its teardown; of unittest's classes, too."""
    result = yield
    if GATE in item.stash:
        item.stash[GATE].compare()
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """An interval needs the samples, which pytest-benchmark saves only when it is asked to."""
    ours = [measured for measured in benchmarks if "twoview" in measured.extra_info]
    samples = {measured.extra_info["twoview"]["test"]: measured.stats.data for measured in ours}
    for saved in output_json["benchmarks"]:
        if "twoview" in saved["extra_info"]:
            saved["stats"]["data"] = samples[saved["extra_info"]["twoview"]["test"]]
