"""A pytest plugin: your tests fail where speed, memory or accuracy got worse by more than you allow.

    @pytest.mark.twoview("quick-fashion-mnist", speed=0.10, memory=0.10, accuracy=0.02)
    def test_simclr(twoview):
        twoview.run()  # times the recipe's training steps in their own process; accuracy=... also trains and evaluates

    @pytest.mark.twoview(speed=0.10)
    def test_collate(twoview):
        assert twoview(collate, images).shape == (64, 3, 32, 32)  # any function, timed by pytest-benchmark

`pytest --benchmark-save=NAME` saves the baseline as a file in pytest-benchmark's storage, and
`pytest --twoview-baseline=NAME` compares with the newest file with that name. The storage is the folder `.benchmarks`
where pytest is started, or the folder given by `--benchmark-storage`. A test is identified by its path from pytest's
rootdir.

A recipe is a name from `twoview list recipes`, or a path to a TOML file, relative to the folder of the test's file. The
memory of a function is measured in one more call after the timed ones, so that it does not depend on the order of the
tests.

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
        help="fail tests marked `twoview` that are worse than the newest --benchmark-save=NAME by more than they allow",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "twoview(recipe=None, speed=None, memory=None, accuracy=None): measured by the fixture `twoview`; speed, memory"
        " and accuracy are the fractions that may be lost against --twoview-baseline",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    if name := session.config.getoption("twoview_baseline"):
        from twoview.bench.regression.gate import BASELINE, baseline

        session.config.stash[BASELINE] = baseline(session.config, name)


GATE = pytest.StashKey["Gate"]()


@pytest.fixture
def twoview(request: pytest.FixtureRequest) -> "Iterator[Gate]":
    """The measuring fixture: `twoview.run()` measures the marked recipe, `twoview(function, ...)` a function, and
    `twoview.accuracy(...)` takes an accuracy.
    """
    if not request.config.pluginmanager.hasplugin("benchmark"):
        pytest.fail("the fixture twoview needs pytest-benchmark, which is not installed or is off", pytrace=False)
    from twoview.bench.regression.gate import Gate

    with Gate(request, request.getfixturevalue("benchmark")) as gate:
        request.node.stash[GATE] = gate
        yield gate


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Compare as part of the test's call, so that the test fails and not its teardown, in unittest's classes too."""
    result = yield
    if GATE in item.stash:
        item.stash[GATE].compare()
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Save the samples of our tests, which their intervals need; pytest-benchmark saves them only on request."""
    ours = [measured for measured in benchmarks if "twoview" in measured.extra_info]
    samples = {measured.extra_info["twoview"]["test"]: measured.stats.data for measured in ours}
    for saved in output_json["benchmarks"]:
        if "twoview" in saved["extra_info"]:
            saved["stats"]["data"] = samples[saved["extra_info"]["twoview"]["test"]]
