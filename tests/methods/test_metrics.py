"""Metrics against plain counting, scikit-learn, and explicit resampling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score, top_k_accuracy_score

from twoview.methods.probes.metrics import bootstrap, metrics


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32))
def test_metrics_are_scikit_learns(classes, images, chunk, seed):
    random = torch.Generator().manual_seed(seed)
    scores = torch.rand(images, classes, generator=random)
    label = torch.randint(classes, (images,), generator=random)
    found = metrics(scores.split(chunk), label)
    assert found.images == images
    assert found.top1 == pytest.approx(100 * accuracy_score(label, scores.argmax(1)))
    names = list(range(classes))
    if classes <= 5:
        assert found.top5 is None
    else:
        assert found.top5 == pytest.approx(100 * top_k_accuracy_score(label, scores, k=5, labels=names))
    recall = recall_score(label, scores.argmax(1), labels=names, average=None, zero_division=0)
    for number, (ours, theirs) in enumerate(zip(found.per_class, recall, strict=True)):
        assert (ours is None) == (number not in label)
        assert ours is None or ours == pytest.approx(100 * theirs)
    low, high = found.interval
    assert 0 <= low <= found.top1 + 1e-9 and found.top1 - 1e-9 <= high <= 100


def test_the_interval_is_that_of_resampled_images():
    hits = np.zeros(300)
    hits[:237] = 1
    random = np.random.Generator(np.random.Philox(0))
    resampled = 100 * random.choice(hits, (20_000, 300)).mean(1)
    # One image is a third of a percent, and 20,000 resamples leave as much doubt about a quantile.
    assert bootstrap(237, 300) == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.35)


def test_the_interval_of_many_images_is_the_normal_one():
    low, high = bootstrap(35_000, 50_000)
    deviation = 100 * np.sqrt(0.7 * 0.3 / 50_000)
    assert (low, high) == pytest.approx((70 - 1.96 * deviation, 70 + 1.96 * deviation), abs=0.003)
    assert bootstrap(10, 10) == (100, 100) and bootstrap(0, 10) == (0, 0)


def test_what_cannot_be_measured_is_named():
    label = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="scores of 2 images and 3 labels"):
        metrics([torch.rand(2, 3)], label)
    with pytest.raises(ValueError, match="scores of 4 images and 3 labels"):
        metrics([torch.rand(2, 3)] * 2, label)
    with pytest.raises(ValueError, match="scores of 0 images and 3 labels"):
        metrics([], label)
    with pytest.raises(ValueError, match="labels must be from 0 to 1, a column of the scores, got 2"):
        metrics([torch.rand(3, 2)], label)
    with pytest.raises(ValueError, match="not finite"):
        metrics([torch.full((3, 3), torch.nan)], label)
