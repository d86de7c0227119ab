"""The fixture of `twoview/pytest_plugin.py`: it measures a test and compares it with a baseline of pytest-benchmark.

The baseline is a saved run. Its time samples are pytest-benchmark's own; everything else is in `extra_info` of the same
file. Old and new are measured in two sessions, between which the machine may have changed. A fixed piece of work, timed
before and after the measurement, shows by how much, and the interval is widened accordingly. `twoview compare --paired`
measures both in one session.
"""

import contextlib
import ctypes
import gc
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twoview.bench.config.differences import differing
from twoview.bench.measurement import bootstrap
from twoview.bench.measurement.calibration import Calibration
from twoview.bench.measurement.environment import environment
from twoview.bench.runtime.escapes import on_one_line

BASELINE = pytest.StashKey[dict[str, dict[str, Any]]]()
ROUNDS, WARMUP = 30, 3  # steps of a recipe that are measured, and steps before them that are not
CALIBRATIONS = 10  # times that the fixed work is timed before the measurement, and again after it
SLACK_MIB = 8.0  # growth of a process's memory that the tested function does not cause


Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Allowed(BaseModel):
    """The arguments of the marker `twoview`.

    speed, memory, accuracy: share by which each may get worse; None if it is not compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    recipe: str | None = None
    speed: Share | None = None
    memory: Share | None = None
    accuracy: Share | None = None


def baseline(config: pytest.Config, name: str) -> dict[str, dict[str, Any]]:
    """Return the newest saved run called `name`: `id_of` a test -> its benchmark.

    Raises UsageError if there is no such run.
    """
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("--twoview-baseline needs pytest-benchmark, which is not installed")
    # A private name of pytest-benchmark: nothing public says which storage it uses and whether it is disabled.
    session: Any = config._benchmarksession  # type: ignore[attr-defined]
    if session.disabled:
        raise pytest.UsageError("--twoview-baseline has nothing to compare: pytest-benchmark is disabled")
    # The storage appends a star to the name, so NAME also finds NAME2.
    saved = [
        run for path, run in session.storage.load(f"*_{name}") if re.fullmatch(r"\d+_" + re.escape(name), path.stem)
    ]
    if not saved:
        looked_at = f"{session.storage} (--benchmark-storage names another folder)"
        raise pytest.UsageError(f"no baseline {name} in {looked_at}: make it with pytest --benchmark-save={name}")
    measured = {
        test["extra_info"]["twoview"].get("test", test["fullname"]): test  # an older baseline has no "test"
        for test in saved[-1]["benchmarks"]
        if "twoview" in test["extra_info"]
    }
    here = environment().machine
    for test in measured.values():
        if (there := test["extra_info"]["twoview"]["machine"]) != here:
            sentence = f"the baseline {name} was measured on another machine, {there}, and this is {here}"
            raise pytest.UsageError(on_one_line(sentence))
    return measured


def id_of(item: pytest.Item) -> str:
    """Return the test's node id.

    Outside of rootdir pytest omits the folders, so that two tests could have the same id; here the folders stay.
    """
    path = Path(os.path.relpath(item.path, item.config.rootpath)).as_posix()
    return f"{path}::{item.nodeid.partition('::')[2]}"


def betons_folder(config: pytest.Config) -> Path | None:
    """Return the folder that keeps converted datasets for later sessions; None under -p no:cacheprovider."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    return cache.mkdir("twoview-betons") if cache else None


class Gate:
    """The fixture `twoview` of one test."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        marker = request.node.get_closest_marker("twoview")
        if marker is None:
            pytest.fail("the fixture twoview needs the marker @pytest.mark.twoview(...)", pytrace=False)
        self.allowed = _allowed(marker)
        self.request, self.benchmark = request, benchmark
        self.baseline = request.config.stash.get(BASELINE, None)
        self.measured: dict[str, Any] = {
            "test": id_of(request.node),
            "machine": environment().machine,
            "calibration_seconds": [],
            "accuracy": {},
        }
        benchmark.extra_info["twoview"] = self.measured

    def __enter__(self) -> Self:
        self.machine = Calibration().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.machine.__exit__(kind, error, trace)

    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Time the function as `benchmark` does and return its result. One more call measures its memory."""
        self._calibrate()
        result = self.benchmark(function, *args, **kwargs)
        self._calibrate()
        if self.benchmark.enabled:
            self.measured["added_mib"] = _added_mib(lambda: function(*args, **kwargs))
        return result

    def run(self) -> None:
        """Measure the recipe of the marker: its training steps and, if the marker has `accuracy`, a full training.

        The steps use one batch that stays on the device, and run in a process of their own, so that its peak memory
        does not include the memory of other tests.
        """
        from twoview.bench.config import recipe
        from twoview.bench.peers.race import TWOVIEW, Process
        from twoview.bench.regression import paired

        if self.allowed.recipe is None:
            pytest.fail("twoview.run() needs a recipe in the marker: @pytest.mark.twoview(RECIPE, ...)", pytrace=False)
        name = self.allowed.recipe
        if name.endswith(".toml"):
            name = str(self.request.path.parent / name)  # relative to the test's folder, wherever pytest was started
        try:
            one = recipe.load(name)
        except (ValueError, OSError) as error:
            pytest.fail(on_one_line(f"@pytest.mark.twoview: {error}"), pytrace=False)
        self.measured["recipe"] = one.settings()
        with Process(TWOVIEW, paired.stepping(one)) as process:
            process.answer()
            self._calibrate()
            answer = self.benchmark.pedantic(process.work_a_round, rounds=ROUNDS, warmup_rounds=WARMUP)
            self._calibrate()
        self.measured["peak_mib"] = answer["device_mib"] or answer["peak_mib"]
        if self.allowed.accuracy is not None and self.benchmark.enabled:
            self._train(one)

    def _train(self, one: Any) -> None:
        """Train the recipe and record the accuracies of its encoder."""
        from twoview.bench.config.experiment import Place
        from twoview.bench.evaluation import judging
        from twoview.bench.training import train
        from twoview.loaders import datasets

        scratch = self.request.getfixturevalue("tmp_path")
        place = Place(betons_folder(self.request.config) or scratch, scratch, datasets.data_root(None))
        try:
            accuracy = judging.judge(train.train(one, place, resume=False), place).accuracy
        except (ValueError, OSError) as error:
            sentence = f"the recipe {self.allowed.recipe} could not be trained: {error}"
            pytest.fail(on_one_line(sentence), pytrace=False)
        self.accuracy(accuracy.knn_top1, accuracy.test_images, "kNN top-1")
        self.accuracy(accuracy.linear_top1, accuracy.test_images, "linear top-1")

    def accuracy(self, percent: float, images: int, name: str = "accuracy") -> None:
        """Record an accuracy, to be compared and saved like the other figures.

        percent: from 0 to 100. images: number of test images, at least 1. Other values fail the test, so that a model
        that diverged does not count as a better one.
        """
        if not 0 <= percent <= 100:
            pytest.fail(f"{name} must be a percentage from 0 to 100, got {percent}", pytrace=False)
        if images < 1:
            pytest.fail(f"{name} must be taken on at least 1 image, got {images}", pytrace=False)
        self.measured["accuracy"][name] = [percent, images]

    def _calibrate(self) -> None:
        """Time the fixed work that shows how fast the machine is at this moment."""
        self.measured["calibration_seconds"] += [self.machine.seconds() for _ in range(CALIBRATIONS)]

    def compare(self) -> None:
        """Fail the test, in one sentence, if it surely lost more than is allowed; warn if it cannot be compared."""
        if self.baseline is None:
            return
        name = self.request.config.getoption("twoview_baseline")
        test = self.baseline.get(self.measured["test"])
        if test is None:
            return self._warn(f"the baseline {name} {self._not_there(self.baseline)}: not compared")
        before = test["extra_info"]["twoview"]
        if words := differing(self.measured.get("recipe") or {}, before.get("recipe") or {}, f"the baseline {name}"):
            return self._warn(f"{words}: not compared")
        if lost := [*self._lost_speed(test), *self._lost_memory(before), *self._lost_accuracy(before)]:
            pytest.fail(on_one_line(f"worse than the baseline {name}: {'; '.join(lost)}"), pytrace=False)

    def _not_there(self, baseline: dict[str, dict[str, Any]]) -> str:
        """Return the end of a sentence about a baseline that does not have this test."""
        here = self.measured["test"]
        for there in baseline:
            if _may_be_one(there, here):
                return f"has {there} and not {here}, which may be the same test with another rootdir"
        return "does not have this test"

    def _warn(self, sentence: str) -> None:
        self.request.node.warn(pytest.PytestWarning(on_one_line(sentence)))

    def _lost_speed(self, test: dict[str, Any]) -> list[str]:
        """Return a sentence if the test became slower by more than is allowed, else nothing."""
        allowed = self.allowed.speed
        if allowed is None:
            return []
        if self.benchmark.stats is None:
            self._warn("no time was measured in this test: its speed is not compared")
            return []
        old, new = test["stats"]["data"], self.benchmark.stats.stats.data
        cost = bootstrap.unpaired_cost([old], [new])
        # The interval is widened by how much longer the fixed work took in one of the two sessions.
        scores = [one["calibration_seconds"] for one in (test["extra_info"]["twoview"], self.measured)]
        equal = bootstrap.unpaired_cost([scores[0]], [scores[1]])
        if cost is None or equal is None or (cost := cost.widened(equal)).verdict(allowed) != "worse":
            return []
        return [f"it takes {_times(cost, allowed)}"]

    def _lost_memory(self, before: dict[str, Any]) -> list[str]:
        """Return a sentence for each measure of memory that grew by more than is allowed."""
        allowed = self.allowed.memory
        if allowed is None:
            return []
        lost = []
        for key, what, slack in (("peak_mib", "peaks at", 0.0), ("added_mib", "grows by", SLACK_MIB)):
            if key in before and key not in self.measured:
                self._warn("no memory was measured in this test: its memory is not compared")
            elif key in before and (new := self.measured[key]) > (old := before[key]) * (1 + allowed) + slack:
                lost.append(f"it {what} {new:.0f} MiB, {old:.0f} before, and {allowed:.0%} more is allowed")
        return lost

    def _lost_accuracy(self, before: dict[str, Any]) -> list[str]:
        """Return a sentence for each accuracy that fell by more than is allowed."""
        allowed = self.allowed.accuracy
        if allowed is None:
            return []
        lost = []
        for name in before["accuracy"].keys() - self.measured["accuracy"].keys():
            self._warn(f"the baseline has {name}, and this test did not measure it: not compared")
        for name, (new, images) in self.measured["accuracy"].items():
            if name in before["accuracy"]:
                old, old_images = before["accuracy"][name]
                cost = bootstrap.accuracy_cost(old / 100, old_images, new / 100, images)
                if cost.verdict(allowed) == "worse":
                    lost.append(f"its {name} is {new:.2f} %, {old:.2f} % before, and {allowed:.0%} less is allowed")
        return lost


def _added_mib(call: Callable[[], object]) -> float:
    """Return by how many MiB the process grows at the peak of a call, whichever tests ran before.

    The function must have been called before: its first call may import modules and start threads, which later tests
    would get for free. Memory that is free but still resident is returned to the system first, because a process uses
    that up before it grows.
    """
    from twoview.bench.measurement.memory import PeakMemory, host_mib

    gc.collect()
    with contextlib.suppress(AttributeError):  # C libraries other than glibc do not have it
        ctypes.CDLL(None).malloc_trim(0)
    memory, before = PeakMemory(), host_mib("VmRSS")
    call()
    return memory.host_mib - before


def _allowed(marker: pytest.Mark) -> Allowed:
    """Return the marker's arguments. An unknown key or an invalid value fails the test, in one sentence."""
    if len(marker.args) > 1:
        pytest.fail("@pytest.mark.twoview takes one recipe, and the shares as keyword arguments", pytrace=False)
    values = {**dict(zip(("recipe",), marker.args, strict=False)), **marker.kwargs}
    try:
        return Allowed.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = first["loc"][0]
        must = f"has no argument {key}; it has {', '.join(Allowed.model_fields)}"
        if first["type"] != "extra_forbidden":
            what = "a recipe's name" if key == "recipe" else "a share of at least 0, such as 0.1"
            must = f"{key} must be {what}, got {first['input']!r}"
        pytest.fail(f"@pytest.mark.twoview {must}", pytrace=False)


def _may_be_one(there: str, here: str) -> bool:
    """Return whether two ids may be of the same test, with paths that begin at different folders."""
    shorter, longer = sorted((f"/{one.lstrip('./')}" for one in (there, here)), key=len)
    return longer.endswith(shorter)


def _times(cost: bootstrap.Cost, allowed: float) -> str:
    """Return the relative duration, with its interval and the allowed value, in words."""
    return f"{cost.ratio:.3f} times as long ({cost.low:.3f} to {cost.high:.3f}), and {1 + allowed:.3g} is allowed"
