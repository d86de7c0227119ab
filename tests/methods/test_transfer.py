"""Batches on their way to a GPU, by a stand-in for torch's streams and events that keeps count."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch

from methods.transfer import AHEAD, on_device


def test_the_host_waits_for_a_gpu_that_is_some_steps_behind_and_no_batch_is_lost(monkeypatch):
    over, log = [], []

    class Event:
        def __init__(self, blocking=False):
            assert blocking, "the processor is the loader's"

        def record(self):
            self.step = len(log)

        def synchronize(self):
            over.append(self.step)

    training = SimpleNamespace(wait_event=lambda event: log.append(event))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(record_event=lambda: "copied"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: training)

    class OfGPU(SimpleNamespace):
        def to(self, device, non_blocking):
            assert device.type == "cuda" and non_blocking
            return self

        def record_stream(self, stream):
            assert stream is training

    batches = [SimpleNamespace(views=(OfGPU(number=n),), masks=(), label=OfGPU()) for n in range(12)]
    for step, (views, _) in enumerate(on_device(iter(batches), torch.device("cuda"))):
        assert views[0].number == step and len(log) == step + 1, "training waits for the copy"
        assert step - len(over) <= AHEAD + 1, "steps that are not known to be over"
    assert step == 11 and over == sorted(over) and over[0] == 1
