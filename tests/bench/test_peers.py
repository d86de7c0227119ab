"""The peers beside ours: the same ops, and who is absent is named."""

from dataclasses import replace

import numpy as np
import pytest
from lightly.transforms.gaussian_blur import GaussianBlur
from PIL import Image

from bench import beside_peers, loader_works
from bench.experiment import Place
from bench.peers.lightly import transform
from loaders import presets


@pytest.mark.parametrize("name", ["simclr-imagenet", "simclr-cifar", "crops"])
def test_the_lightly_peer_does_the_same_ops(name):
    for view in presets.preset(name, 32):
        pipeline = transform(view).transform
        steps = {type(step).__name__: step for step in pipeline.transforms}
        assert steps["RandomResizedCrop"].scale == view.scale and steps["RandomHorizontalFlip"].p == view.flip
        assert steps["RandomGrayscale"].p == view.gray
        assert steps["RandomApply"].p == (view.jitter.p if view.jitter else 0), "of the jitter"
        (blur,) = (step for step in pipeline.transforms if isinstance(step, GaussianBlur))
        assert blur.prob == (view.blur.p if view.blur else 0)
        assert pipeline(Image.fromarray(np.zeros((40, 50, 3), np.uint8))).shape == (3, 32, 32)


def test_what_lightlys_views_have_not_is_said():
    with pytest.raises(ValueError, match="makes SimCLR's views only"):
        transform(presets.preset("eval", 32)[0])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_all_beside_ours(betons, tmp_path):
    """The loaders on a small work, one of them absent, and the step."""
    work = replace(loader_works.FASHION, images=128, batch=64, views="crops-msn", peers=("torchvision", "lightly"))
    scale = replace(beside_peers.ON_CPU, step_batch=4)
    loading, step = beside_peers.measure(Place(betons, tmp_path, None), 2, (work,), scale)
    assert loading.name == f"peers-{work.name}" and set(loading.images_per_s) == {"twoview", "torchvision"}
    assert loading.notes["lightly"].startswith("absent: ValueError: the lightly peer makes SimCLR's views only")
    rates = {figure.figure: figure.samples for figure in step.figures}
    assert len(rates["step in twoview"]) == len(rates["step in lightly"]) == 2
    said = beside_peers.text([loading, step])
    assert "lightly      absent:" in said and "twoview / lightly" in said
