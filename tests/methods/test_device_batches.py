"""Copying batches to a GPU, with a stand-in for torch's streams and events that counts their use."""

import functools
from contextlib import contextmanager
from types import SimpleNamespace

import torch

from twoview.methods import device_batches
from twoview.methods.device_batches import AHEAD, on_device


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
    waited, entered = [], []
    side = SimpleNamespace(record_event=lambda: "copied", wait_stream=waited.append)

    @contextmanager
    def stream(one):
        entered.append(one)
        yield
        entered.pop()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    streams = [side]
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: streams.pop())
    monkeypatch.setattr(device_batches, "_stream", functools.cache(device_batches._stream.__wrapped__))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: training)

    class OfGPU(SimpleNamespace):
        def to(self, device, non_blocking):
            assert device.type == "cuda" and non_blocking
            return self

        def record_stream(self, stream):
            assert stream is training

    def batches():
        for number in range(12):
            assert waited == [training], "the images that lie on the GPU are there"
            assert entered == [side], "a batch is made on the stream that it is copied on"
            yield SimpleNamespace(views=(OfGPU(number=number),), masks=(), label=OfGPU())

    for _ in on_device(iter(()), torch.device("cuda")):
        pass
    waited.clear()  # the stream of an earlier epoch is reused
    for step, batch in enumerate(on_device(batches(), torch.device("cuda"))):
        assert not entered, "training is on its own stream"
        assert batch.views[0].number == step and len(log) == step + 1, "training waits for the copy"
        assert step - len(over) <= AHEAD + 1, "steps that are not known to be over"
    assert step == 11 and over == sorted(over) and over[0] == 1
