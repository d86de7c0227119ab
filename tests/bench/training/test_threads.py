"""Data is loaded by as many threads as the model needs, and measuring that changes nothing."""

from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from twoview.bench.training import threads as module
from twoview.bench.training.threads import loading_threads
from twoview.loaders.loader import Loader
from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.supervised import Supervised, SupervisedOptions
from twoview.methods.trainer import Trainer


class Clock:
    """A clock that is advanced by hand, so that the load of the machine does not matter."""

    now = 0.0

    def passes(self, seconds):
        self.now += seconds

    def __deepcopy__(self, memo):
        return self


class Slow(nn.Module):
    """Takes a given time, draws a random number and counts its calls."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds = clock, seconds
        self.linear = nn.Linear(28 * 28 * 3, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.clock.passes(self.seconds)
        self.calls += 1
        return self.linear(x.flatten(1) + torch.rand(1))


@pytest.mark.parametrize(
    ("batches", "model", "render", "threads"),
    [(31, 20, 1, 1), (31, 2, 2, 1), (2, 2, 7, 4), (1, 2, 7, 4), (1, 2, 50, 8)],
)
def test_as_many_threads_load_data_as_the_model_needs(fashion, monkeypatch, capsys, batches, model, render, threads):
    """However few batches an epoch has."""
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    method = Supervised(SupervisedOptions(), Encoder(Slow(clock, model), 4), (View(28),), 10)
    normalize, device = Normalize((0.5,) * 3, (0.25,) * 3), torch.device("cpu")
    trainer = Trainer(method, Optim(), epochs=1, normalize=normalize, device=device, precision="fp32")
    with Loader(fashion, (View(28),), 64, indices=np.arange(64 * batches)) as loader:

        def rendered(epoch):
            for batch in loader.epoch(epoch):
                clock.passes(render)
                yield batch

        random = torch.get_rng_state()
        found = loading_threads(trainer, SimpleNamespace(epoch=lambda epoch: closing(rendered(epoch))), 8)
    assert found == threads
    said = (
        f"{threads} of 8 cores load data: one thread loads a batch in {render}000 ms, and the model takes {model}000 ms"
    )
    assert " ".join(capsys.readouterr().err.split()) == said
    assert torch.equal(random, torch.get_rng_state())
    assert method.encoder.body.calls == 0 and all(p.grad is None for p in method.parameters())
