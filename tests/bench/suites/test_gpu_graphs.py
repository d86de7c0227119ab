"""The GPU suite's steps for CUDA graphs, with a stand-in that runs a step again where a GPU would replay it."""

import time

import pytest
import torch

from tests.support.gpu_steps import by_name, last
from twoview.bench.config.experiment import Place
from twoview.bench.suites.gpu import graphs
from twoview.bench.suites.gpu.scale import TINY, Context
from twoview.methods import graph
from twoview.methods.trainer import Trainer


@pytest.fixture
def context(tmp_path):
    place = Place(tmp_path / "betons", tmp_path / "checkpoints", None)
    return Context(TINY, place, tmp_path / "evidence", time.monotonic() + 3600)


def stand_in(monkeypatch, stale=False):
    def recorded(work):
        out = {}
        replays = []

        def replay():
            replays.append(1)
            if not (stale and len(replays) > 1):
                out.update(work())

        return replay, out

    monkeypatch.setattr(graph, "check", lambda *args: None)
    monkeypatch.setattr(graph, "on_side_stream", lambda work: work())
    monkeypatch.setattr(graph, "recorded", recorded)


def loss_off(context, method):
    return by_name(last(graphs.measure_method(context, method)))["recorded loss difference"]


@pytest.mark.parametrize("method", ["simclr", "mae", pytest.param("byol", marks=pytest.mark.long)])
def test_a_recorded_step_has_the_loss_of_a_plain_one(context, monkeypatch, method):
    stand_in(monkeypatch)
    record = last(graphs.measure_method(context, method))
    assert record.name == f"gpu-graph-{method}"
    plain, recorded = record.figures
    assert plain.quantity == "loss_repeat_difference" and plain.samples == [0.0]
    assert recorded.samples == [0.0] and recorded.tolerance == graphs.OFF and not recorded.off


def test_only_the_compared_steps_are_deterministic(context, monkeypatch):
    stand_in(monkeypatch)
    seen, step = set(), Trainer.step

    def watched(*args):
        seen.add((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))
        return step(*args)

    monkeypatch.setattr(Trainer, "step", watched)
    last(graphs.measure_method(context, "simclr"))
    assert seen == {(True, False)}
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark


def test_the_step_is_timed_plain_and_recorded(context, monkeypatch):
    stand_in(monkeypatch)
    monkeypatch.setattr(graphs, "KINDS", (("off", False), ("off", True)))
    *parts, record = graphs.measure_cifar(context)
    steps = {
        figure.work.rpartition("batch 16, ")[2]: figure for figure in record.figures if figure.quantity == "step_time"
    }
    assert set(steps) == {"plain, eager", "recorded, eager"}
    assert all(len(figure.samples) == TINY.steps for figure in steps.values())
    assert len(parts[0].figures) < len(record.figures)


def test_a_nondeterministic_device_gets_a_wider_tolerance(context, monkeypatch):
    stand_in(monkeypatch)
    whole, trainers = graphs._losses, []

    def off(one, trainer):
        trainers.append(trainer)
        return whole(one, trainer) * (1 + 0.002 * len(trainers))

    monkeypatch.setattr(graphs, "_losses", off)
    figure = loss_off(context, "simclr")
    assert figure.tolerance == pytest.approx(10 * 0.002 / 1.002)
    assert figure.samples == [pytest.approx(0.004 / 1.002)] and not figure.off


def test_a_replay_that_does_nothing_is_detected(context, monkeypatch):
    stand_in(monkeypatch, stale=True)
    assert all(loss_off(context, method).off for method in ("simclr", "byol"))


def test_a_replay_with_a_nan_loss_is_detected(context, monkeypatch):
    stand_in(monkeypatch)
    whole, recordings = graph.recorded, []

    def poisoned(work):
        replay, out = whole(work)
        recordings.append(replay)

        def last():
            replay()
            if len(replays) == graphs.REPLAYS - 1:
                out["loss"] = out["loss"] * torch.nan
            replays.append(1)

        replays = []
        return last, out

    monkeypatch.setattr(graph, "recorded", poisoned)
    assert loss_off(context, "simclr").off and recordings


def test_a_method_that_cannot_be_recorded_fails_and_says_why(context, monkeypatch):
    stand_in(monkeypatch)

    def refused(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graph, "recorded", refused)
    figure = loss_off(context, "simclr")
    assert figure.off and "a step of SimCLR cannot be recorded: operation not permitted" in figure.note


def test_a_step_that_cannot_be_recorded_does_not_affect_the_others(context, monkeypatch):
    stand_in(monkeypatch)
    monkeypatch.setattr(graphs, "KINDS", (("off", True), ("off", False)))

    def refused(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graph, "recorded", refused)
    recorded, plain = [one for one in last(graphs.measure_cifar(context)).figures if one.quantity == "step_time"]
    assert recorded.samples == [] and "operation not permitted" in recorded.note and len(plain.samples) == TINY.steps


def test_a_device_without_graphs_says_so_and_fails_no_check(context):
    figure = loss_off(context, "simclr")
    assert figure.samples == [] and not figure.off
    assert figure.note == "cuda_graph needs a CUDA device, got cpu"
