"""Timings for pytest-benchmark: `make benchmark` runs them and compares with the last saved run."""

import pytest
import torch

from twoview.bench.dataloader.rates import job_for
from twoview.bench.peers.decode import Decode
from twoview.loaders import beton, presets
from twoview.loaders.loader import Loader
from twoview.methods import backbones, registry
from twoview.methods.backbones import Backbone
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.simclr import SimCLROptions
from twoview.methods.trainer import Trainer


@pytest.mark.parametrize("views", ["simclr-imagenet", "crops", "crops-msn", "msn", "eval"])
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


def test_bare_decode(benchmark, photographs):
    """libjpeg-turbo alone on the same 48 photographs and threads, the ceiling of the loader's rate."""
    job = job_for(photographs.path, "crops", 224, 2, 48, 48, 16)
    contestant = Decode(job)
    contestant.make()
    assert len(benchmark(lambda: list(contestant.one_pass()))) == 3


def test_first_batch(benchmark, photographs):
    """From the construction of the loader to a batch of two views at 224, with compiled kernels."""
    views = presets.preset("simclr-imagenet", 224)

    def first_batch():
        with Loader(photographs, views, 48, threads=2) as loader:
            return next(loader.epoch(0))

    assert len(benchmark(first_batch).label) == 48


def test_convert_jpeg(benchmark, photographs, tmp_path):
    """48 photographs written with two threads, with their bytes unchanged."""
    b, path = photographs, tmp_path / "written.beton"

    def stored(index):
        content = b.file[b.pointers[index] : b.pointers[index] + b.sizes[index]].tobytes()
        return beton.Stored(beton.JPEG, int(b.heights[index]), int(b.widths[index]), content, int(b.labels[index]))

    benchmark(lambda: list(beton.write(path, 48, stored, threads=2)))
    assert len(beton.open_beton(path)) == 48


def test_simclr_step(benchmark, fashion):
    """One optimizer step of SimCLR on 64 images, two views each, resident."""
    views = presets.preset("simclr-gray", 28)
    with Loader(fashion, views, 64) as loader:
        batch = next(loader.epoch(0))
    torch.manual_seed(0)
    options = SimCLROptions(hidden=256, projection=64)
    method = registry.entry("simclr").build(options, backbones.build(Backbone()), views, 10)
    normalize = Normalize((0.286,) * 3, (0.353,) * 3)
    trainer = Trainer(method, Optim(), epochs=1, normalize=normalize, device=torch.device("cpu"), precision="fp32")
    loss = benchmark(lambda: trainer.step(batch, 0.0)["loss"].item())
    assert loss > 0
