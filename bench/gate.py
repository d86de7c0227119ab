"""What the pytest plugin `pytest_twoview` does: it measures a test and holds it to a baseline of pytest-benchmark's.

The samples of time are pytest-benchmark's own; the rest lies in the `extra_info` of the same file. Old and new are
measured in two sessions here, so that the machine may have been another: a fixed piece of work before and after the
measurement says so, and the interval is made longer by as much. `twoview compare --paired` has both in one session.
"""

import re
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import bootstrap
from bench.calibration import Calibration
from bench.environment import environment

BASELINE = pytest.StashKey[dict[str, dict[str, Any]]]()
ROUNDS, WARMUP = 30, 3  # steps of a recipe
CALIBRATIONS = 10  # before the measurement, and after it
SLACK_MIB = 8.0  # by which a process's memory grows for no reason of the function's


Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Allowed(BaseModel):
    """The marker: shares that may be lost, None for what is not looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    recipe: str | None = None
    speed: Share | None = None
    memory: Share | None = None
    accuracy: Share | None = None


def baseline(config: pytest.Config, name: str) -> dict[str, dict[str, Any]]:
    """The newest saved run of that name: test -> its benchmark. UsageError where nothing can be compared with it."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("--twoview-baseline needs pytest-benchmark, which is not installed")
    session: Any = config._benchmarksession  # type: ignore[attr-defined]
    if session.disabled:
        raise pytest.UsageError("--twoview-baseline has nothing to compare: pytest-benchmark is disabled")
    # Its globs end in a star, so that NAME finds NAME2 as well.
    saved = [
        run for path, run in session.storage.load(f"*_{name}") if re.fullmatch(r"\d+_" + re.escape(name), path.stem)
    ]
    if not saved:
        raise pytest.UsageError(f"no baseline {name} in {session.storage}: make it by pytest --benchmark-save={name}")
    measured = {test["fullname"]: test for test in saved[-1]["benchmarks"] if "twoview" in test["extra_info"]}
    here = environment().machine
    for test in measured.values():
        if (there := test["extra_info"]["twoview"]["machine"]) != here:
            raise pytest.UsageError(f"the baseline {name} is of another machine, {there}, and this is {here}")
    return measured


def betons_folder(config: pytest.Config) -> Path:
    """Converted datasets, kept for the next session."""
    assert config.cache
    return config.cache.mkdir("twoview-betons")


class Gate:
    """The fixture `twoview` of one test."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        marker = request.node.get_closest_marker("twoview")
        if marker is None:
            pytest.fail("the fixture twoview needs the marker @pytest.mark.twoview(...)", pytrace=False)
        self.allowed = _allowed(marker)
        self.request, self.benchmark = request, benchmark
        self.baseline = request.config.stash.get(BASELINE, None)
        self.measured: dict[str, Any] = {"machine": environment().machine, "calibration_seconds": [], "accuracy": {}}
        benchmark.extra_info["twoview"] = self.measured

    def __enter__(self) -> Self:
        self.machine = Calibration().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.machine.__exit__(kind, error, trace)

    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Times the function as `benchmark` does and returns what it returns. Memory is what the process grew by."""
        from bench.memory import PeakMemory, host_mib

        memory, before = PeakMemory(), host_mib("VmRSS")
        self._calibrate()
        result = self.benchmark(function, *args, **kwargs)
        self._calibrate()
        self.measured["added_mib"] = memory.host_mib - before
        return result

    def run(self) -> None:
        """The marked recipe: its training steps, and, where a loss of accuracy is allowed, it trained and judged.

        Steps on one resident batch, in a process of their own, whose peak of memory is not the other tests'.
        """
        from bench import paired, recipe
        from bench.loader_rates import OURS, Process

        if self.allowed.recipe is None:
            pytest.fail("twoview.run() needs a recipe in the marker: @pytest.mark.twoview(RECIPE, ...)", pytrace=False)
        try:
            one = recipe.load(self.allowed.recipe)
        except (ValueError, OSError) as error:
            pytest.fail(f"@pytest.mark.twoview: {error}", pytrace=False)
        self.measured["recipe"] = one.settings()
        with Process(OURS, paired.stepping(one)) as process:
            process.answer()
            self._calibrate()
            answer = self.benchmark.pedantic(process.work_a_round, rounds=ROUNDS, warmup_rounds=WARMUP)
            self._calibrate()
        self.measured["peak_mib"] = answer["device_mib"] or answer["peak_mib"]
        if self.allowed.accuracy is not None and self.benchmark.enabled:
            self._train(one)

    def _train(self, one: Any) -> None:
        from bench import judging, training
        from bench.experiment import Place
        from loaders import datasets

        place = Place(
            betons_folder(self.request.config), self.request.getfixturevalue("tmp_path"), datasets.data_root(None)
        )
        accuracy = judging.judge(training.train(one, place, resume=False), place).accuracy
        self.accuracy(accuracy.knn_top1, accuracy.test_images, "kNN top-1")
        self.accuracy(accuracy.linear_top1, accuracy.test_images, "linear top-1")

    def accuracy(self, percent: float, images: int, name: str = "accuracy") -> None:
        """An accuracy on so many test images, which is compared and saved like the other figures.

        percent: from 0 to 100. images: at least 1. What is not fails the test: a model that diverged is no better.
        """
        if not 0 <= percent <= 100:
            pytest.fail(f"{name} must be a percentage from 0 to 100, got {percent}", pytrace=False)
        if images < 1:
            pytest.fail(f"{name} must be taken on at least 1 image, got {images}", pytrace=False)
        self.measured["accuracy"][name] = [percent, images]

    def _calibrate(self) -> None:
        self.measured["calibration_seconds"] += [self.machine.seconds() for _ in range(CALIBRATIONS)]

    def compare(self) -> None:
        """Fails the test, in one sentence, where it surely lost more than it may; warns where nothing can be said."""
        if self.baseline is None:
            return
        name = self.request.config.getoption("twoview_baseline")
        test = self.baseline.get(self.request.node.nodeid)
        if test is None:
            return self._warn(f"the baseline {name} does not have this test: not compared")
        before = test["extra_info"]["twoview"]
        if before.get("recipe") != self.measured.get("recipe"):
            return self._warn(f"the baseline {name} is of another recipe: not compared")
        if lost := [*self._lost_speed(test), *self._lost_memory(before), *self._lost_accuracy(before)]:
            pytest.fail(f"worse than the baseline {name}: {'; '.join(lost)}", pytrace=False)

    def _warn(self, sentence: str) -> None:
        self.request.node.warn(pytest.PytestWarning(sentence))

    def _lost_speed(self, test: dict[str, Any]) -> list[str]:
        allowed = self.allowed.speed
        if allowed is None:
            return []
        if self.benchmark.stats is None:
            self._warn("no time was measured in this test: its speed is not compared")
            return []
        old, new = test["stats"]["data"], self.benchmark.stats.stats.data
        cost = bootstrap.of_runs([old], [new])
        scores = [one["calibration_seconds"] for one in (test["extra_info"]["twoview"], self.measured)]
        equal = bootstrap.of_runs([scores[0]], [scores[1]])
        if cost is None or equal is None or (cost := cost.widened(equal)).verdict(allowed) != "worse":
            return []
        return [f"it takes {_times(cost, allowed)}"]

    def _lost_memory(self, before: dict[str, Any]) -> list[str]:
        allowed = self.allowed.memory
        lost = []
        if allowed is not None:
            for key, what, slack in (("peak_mib", "peaks at", 0.0), ("added_mib", "grows by", SLACK_MIB)):
                if key in before and self.measured[key] > before[key] * (1 + allowed) + slack:
                    old, new = before[key], self.measured[key]
                    lost.append(f"it {what} {new:.0f} MiB, {old:.0f} before, and {allowed:.0%} more is allowed")
        return lost

    def _lost_accuracy(self, before: dict[str, Any]) -> list[str]:
        allowed = self.allowed.accuracy
        if allowed is None:
            return []
        lost = []
        for name in before["accuracy"].keys() - self.measured["accuracy"].keys():
            self._warn(f"the baseline has {name}, and this test did not measure it: not compared")
        for name, (new, images) in self.measured["accuracy"].items():
            if name in before["accuracy"]:
                old, old_images = before["accuracy"][name]
                cost = bootstrap.of_shares(old / 100, old_images, new / 100, images)
                if cost.verdict(allowed) == "worse":
                    lost.append(f"its {name} is {new:.2f} %, {old:.2f} % before, and {allowed:.0%} less is allowed")
        return lost


def _allowed(marker: pytest.Mark) -> Allowed:
    """Fails the test, in one sentence, where the marker has a key or a value that it cannot have."""
    if len(marker.args) > 1:
        pytest.fail("@pytest.mark.twoview takes one recipe, and the shares by name", pytrace=False)
    values = {**dict(zip(("recipe",), marker.args, strict=False)), **marker.kwargs}
    try:
        return Allowed.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = first["loc"][0]
        must = f"has no {key}; it has {', '.join(Allowed.model_fields)}"
        if first["type"] != "extra_forbidden":
            what = "a recipe's name" if key == "recipe" else "a share of at least 0, as 0.1"
            must = f"{key} must be {what}, got {first['input']!r}"
        pytest.fail(f"@pytest.mark.twoview {must}", pytrace=False)


def _times(cost: bootstrap.Cost, allowed: float) -> str:
    return f"{cost.ratio:.3f} times as long ({cost.low:.3f} to {cost.high:.3f}), and {1 + allowed:.3g} is allowed"
