"""Timings for pytest-benchmark: `make benchmark` runs them and compares with the last saved run."""

import pytest
import torch

from loaders import presets
from loaders.loader import Loader
from methods import backbones, registry
from methods.backbones import Backbone
from methods.normalise import Normalise
from methods.optim import Optim
from methods.simclr import SimCLROptions
from methods.trainer import Trainer


@pytest.mark.parametrize("views", ["simclr-imagenet", "crops", "eval"])
def test_loader_at_224_jpeg(benchmark, photographs, views):
    """One pass over 48 photographs on two threads."""
    epochs = iter(range(10**9))
    with Loader(photographs, presets.preset(views, 224), 16, threads=2) as loader:
        batches = benchmark(lambda: list(loader.epoch(next(epochs))))
    assert len(batches) == 3


@pytest.mark.parametrize("views", ["simclr-cifar", "simclr-gray"])
def test_loader_at_32_raw(benchmark, fashion, views):
    """One pass over 2,000 small images on two threads."""
    epochs = iter(range(10**9))
    with Loader(fashion, presets.preset(views, 32), 250, threads=2) as loader:
        batches = benchmark(lambda: list(loader.epoch(next(epochs))))
    assert len(batches) == 8


def test_simclr_step(benchmark, fashion):
    """One optimiser step of SimCLR on 64 images, two views each, resident."""
    views = presets.preset("simclr-gray", 28)
    with Loader(fashion, views, 64) as loader:
        batch = next(loader.epoch(0))
    torch.manual_seed(0)
    options = SimCLROptions(hidden=256, projection=64)
    method = registry.entry("simclr").build(options, backbones.build(Backbone()), views, 10)
    normalise = Normalise((0.286,) * 3, (0.353,) * 3)
    trainer = Trainer(method, Optim(), epochs=1, normalise=normalise, device=torch.device("cpu"), precision="fp32")
    loss = benchmark(lambda: trainer.step(batch, 0.0)["loss"].item())
    assert loss > 0
