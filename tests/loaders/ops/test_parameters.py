"""The ops' draws against torchvision's: 5,000 draws each with fixed seeds, accepted at p > 0.01.

The conformance card (`twoview.bench.dataloader.conformance`), which is tested too, uses 20,000.
"""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision import transforms

from twoview.loaders.ops import blur, crop, flip, gray, jitter, solarize

N = 5_000
SEED = 11


def same(ours, theirs):
    return stats.ks_2samp(ours, theirs).pvalue > 0.01


@pytest.fixture(autouse=True)
def torch_seed():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 0.5)])
def test_crop(height, width, scale):
    ratio = (3 / 4, 4 / 3)
    ours = np.array([crop.draw(height, width, *scale, *ratio, SEED, 0, sample, 0) for sample in range(N)])
    theirs = np.array([crop.reference(height, width, scale, ratio) for _ in range(N)])
    for top, left, h, w in (ours.T, theirs.T):
        assert (top >= 0).all() and (left >= 0).all() and (top + h <= height).all() and (left + w <= width).all()
    assert same(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    assert same(ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2])
    assert same(ours[:, 0], theirs[:, 0])
    assert same(ours[:, 1], theirs[:, 1])


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (1, 1), (1, 3000)])
def test_crop_falls_back_to_the_center(height, width):
    scale, ratio = (0.9, 1.0), (3 / 4, 4 / 3)
    assert crop.fallback(height, width, *ratio) == crop.reference(height, width, (50.0, 50.0), ratio)
    top, left, h, w = crop.draw(height, width, *scale, *ratio, SEED, 0, 0, 0)
    assert 0 <= top <= height - h and 0 <= left <= width - w and h > 0 and w > 0


def test_jitter():
    color = transforms.ColorJitter(0.8, 0.4, 1.5, 0.2)
    theirs = [color.get_params(color.brightness, color.contrast, color.saturation, color.hue) for _ in range(N)]
    ours = [jitter.draw(0.8, 0.4, 1.5, 0.2, 0.8, SEED, 0, sample, 0) for sample in range(N)]
    for k in range(4):
        assert same([factors[k] for _, factors, _ in ours], [drawn[k + 1] for drawn in theirs])
    orders = Counter(tuple(map(int, order)) for _, _, order in ours)
    assert set(orders) == set(permutations(range(4)))
    assert stats.chisquare(list(orders.values())).pvalue > 0.01
    applied = sum(apply for apply, _, _ in ours)
    assert stats.binomtest(applied, N, 0.8).pvalue > 0.01


def test_sigma():
    ours = [blur.draw(0.1, 2.0, 0.5, SEED, 0, sample, 0) for sample in range(N)]
    theirs = [transforms.GaussianBlur.get_params(0.1, 2.0) for _ in range(N)]
    assert same([sigma for _, sigma in ours], theirs)
    assert stats.binomtest(sum(apply for apply, _ in ours), N, 0.5).pvalue > 0.01


@pytest.mark.parametrize("op", [flip, gray, solarize])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_rates(op, p):
    applied = sum(op.draw(p, SEED, 0, sample, 0) for sample in range(N))
    assert applied == p * N if p in (0, 1) else stats.binomtest(applied, N, p).pvalue > 0.01
