"""The loader and its plain reference implementation give the same batches, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twoview.loaders.loader import Loader
from twoview.loaders.ops.blur import smoothed
from twoview.loaders.presets import PRESETS, preset
from twoview.loaders.reference import Reference
from twoview.loaders.views import Blur, Erase, Jitter, Solarize, View


def same(beton, views, batch, epochs=(0,), **options):
    """Return whether all batches of the epochs are equal; there must be at least one."""
    reference = Reference(beton, views, batch, **options)
    with Loader(beton, views, batch, threads=2, **options) as loader:
        assert len(loader) == len(reference)
        for epoch in epochs:
            pairs = list(zip(loader.epoch(epoch), reference.epoch(epoch), strict=True))
            assert len(pairs) == len(reference)
            for ours, theirs in pairs:
                assert torch.equal(ours.label, theirs.label) and torch.equal(ours.index, theirs.index)
                for view, expected in zip(ours.views, theirs.views, strict=True):
                    assert view.dtype == expected.dtype and view.stride() == expected.stride()
                    assert torch.equal(view, expected), (view.int() - expected).abs().max()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset(photographs, fashion, name):
    indices = np.arange(0, 48, 8)
    same(photographs, preset(name, 224), 2, indices=indices[:2], seed=3)
    same(photographs, preset(name, 32), 3, (0, 1), indices=indices, seed=2**63 + 5)
    same(fashion, preset(name, 28), 16, (0, 1), indices=np.arange(32), seed=1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_every_op_at_once(photographs, fashion, interpolation):
    view = View(
        64, jitter=Jitter(0.8, 0.8, 0.8, 0.5, 1.0), gray=0.5, blur=Blur(0.1, 4.0, 31, 1.0), solarize=Solarize(100, 0.5),
        erase=Erase(level=7, p=0.5), interpolation=interpolation,
    )  # fmt: skip
    padded = View(32, scale=None, resize=40, padding=6, erase=Erase(), interpolation=interpolation)
    center = View(32, scale=None, resize=40, flip=0.5, interpolation=interpolation)
    same(photographs, (view, center, padded), 8, seed=7)
    same(fashion, (view, center, padded), 64, seed=7, indices=np.arange(64))


probability = st.sampled_from([0.0, 0.5, 1.0])
strength = st.floats(0, 2)
odd = st.integers(1, 11).map(lambda radius: 2 * radius + 1)
VIEWS = st.builds(
    View,
    size=st.integers(12, 70),
    scale=st.sampled_from([(0.08, 1.0), (0.01, 0.05), (1.0, 1.0)]),
    ratio=st.sampled_from([(3 / 4, 4 / 3), (0.2, 5.0)]),
    flip=probability,
    jitter=st.none() | st.builds(Jitter, strength, strength, strength, st.floats(0, 0.5), probability),
    gray=probability,
    blur=st.none() | st.builds(Blur, st.just(0.1), st.floats(0.1, 8), odd, probability),
    solarize=st.none() | st.builds(Solarize, st.integers(0, 256), probability),
    erase=st.none() | st.builds(Erase, st.just(0.02), st.floats(0.02, 1), st.just(0.3), st.floats(0.3, 3.3),
                                st.integers(0, 255), probability),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)  # fmt: skip


@settings(max_examples=40)
@given(view=VIEWS, seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**31 - 1), first=st.integers(0, 40))
def test_any_view(photographs, fashion, view, seed, epoch, first):
    indices = np.arange(first, first + 4)
    same(photographs, (view,), 4, (epoch,), indices=indices, seed=seed)
    same(fashion, (view,), 4, (epoch,), indices=indices, seed=seed)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_orders_and_lengths(fashion, shuffle, drop_last):
    indices = np.array([5, 1999, 3, 3, 800, 42, 7])
    same(fashion, preset("crops", 8), 3, (0, 1, 7), indices=indices, shuffle=shuffle, drop_last=drop_last, seed=9)


def test_what_it_refuses(fashion):
    with pytest.raises(ValueError, match="2000 images do not fill one batch of 2001"):
        Reference(fashion, preset("crops", 8), 2001)
    with pytest.raises(ValueError, match="size must be at least 1"):
        Reference(fashion, (View(0),), 2)


def test_smoothing_is_the_weighted_sum_of_the_mirrored_image():
    """Against numpy's padding in floating point: equal within the two roundings."""
    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    taps = np.array([1, 3, 8, 3, 1], np.int32) << 18
    padded = np.pad(image.astype(float), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    weights = taps / taps.sum()
    expected = sum(
        weights[i] * weights[j] * padded[i : i + 9, j : j + 13] for i in range(5) for j in range(5)
    )  # fmt: skip
    assert np.abs(smoothed(image, taps) - expected).max() <= 1
