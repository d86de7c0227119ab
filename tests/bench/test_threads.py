"""As many threads load as keep up with the model, and measuring it changes nothing."""

import time

import pytest
import torch
from torch import nn

from bench.threads import loading_threads
from loaders.loader import Loader
from loaders.views import View
from methods.backbones import Encoder
from methods.normalise import Normalise
from methods.optim import Optim
from methods.supervised import Supervised, SupervisedOptions
from methods.trainer import Trainer


class Slow(nn.Module):
    """Takes a given time, draws a random number and counts its calls."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.linear = nn.Linear(28 * 28 * 3, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        time.sleep(self.seconds)
        self.calls += 1
        return self.linear(x.flatten(1) + torch.rand(1))


@pytest.mark.parametrize(("model", "render", "threads"), [(0.2, 0.01, 1), (0.02, 0.06, 4), (0.02, 0.5, 8)])
def test_as_many_as_keep_up(fashion, monkeypatch, model, render, threads):
    """Sleeping stands for work, so that the machine's other load does not matter much."""
    method = Supervised(SupervisedOptions(), Encoder(Slow(model), 4), (View(28),), 10)
    normalise, device = Normalise((0.5,) * 3, (0.25,) * 3), torch.device("cpu")
    trainer = Trainer(method, Optim(), epochs=1, normalise=normalise, device=device, precision="fp32")
    with Loader(fashion, (View(28),), 64) as loader:
        rendered = loader._render
        monkeypatch.setattr(loader, "_render", lambda *work: (time.sleep(render), rendered(*work)))
        random = torch.get_rng_state()
        found = loading_threads(trainer, loader, 8)
    assert abs(found - threads) <= (threads == 4)
    assert torch.equal(random, torch.get_rng_state())
    assert method.encoder.body.calls == 0 and all(p.grad is None for p in method.parameters())
