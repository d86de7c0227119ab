"""The GPU suite's step about CUDA graphs, with a stand-in that runs a step again where a GPU would replay it."""

import time

import pytest
import torch
from test_gpu_suite import TINY

from bench.experiment import Place
from bench.gpu import graphs
from bench.gpu.scale import HEADLINE, Context, Skipped
from methods import graph


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "METHODS", ["simclr", "byol"])
    monkeypatch.setattr(graphs, "STEPS", [(HEADLINE, "off")])
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
    monkeypatch.setattr(graph, "aside", lambda work: work())
    monkeypatch.setattr(graph, "recorded", recorded)


def test_every_method_is_held_against_its_plain_step_and_both_are_timed(context, monkeypatch):
    stand_in(monkeypatch)
    record = graphs.measure(context)
    off = [figure for figure in record.figures if figure.tolerance]
    assert [figure.work.split(",")[0] for figure in off] == ["simclr", "byol"]
    assert not any(figure.off for figure in off)
    steps = {figure.work.split(", ")[-1]: figure for figure in record.figures if figure.figure == "step"}
    assert set(steps) == {"plain", "recorded"} and all(len(figure.samples) == TINY.steps for figure in steps.values())


def test_a_replay_that_does_nothing_is_seen(context, monkeypatch):
    stand_in(monkeypatch, stale=True)
    assert all(graphs._losses(context, method)[0].off for method in ("simclr", "byol"))


def test_a_replay_that_loses_nan_is_seen(context, monkeypatch):
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
    assert graphs._losses(context, "simclr")[0].off and recordings


def test_a_method_that_cannot_be_recorded_is_off_and_the_others_are_held_on(context, monkeypatch):
    stand_in(monkeypatch)
    whole, refusals = graph.recorded, iter([True])

    def refused(work):
        if next(refusals, False):
            raise RuntimeError("operation not permitted when stream is capturing")
        return whole(work)

    monkeypatch.setattr(graph, "recorded", refused)
    simclr, byol = [graphs._losses(context, method)[0] for method in ("simclr", "byol")]
    assert simclr.off and "a step of SimCLR cannot be recorded: operation not permitted" in simclr.note
    assert not byol.off and not byol.note


def test_without_a_gpu_it_is_skipped_by_name(context):
    with pytest.raises(Skipped, match="cuda_graph needs a CUDA device, and this training is on cpu"):
        graphs.measure(context)
