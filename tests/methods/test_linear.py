"""Linear probes on features, by L-BFGS, by SGD and on few labels, against scikit-learn and plain SGD, on digits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from twoview.methods.probes import low_shot
from twoview.methods.probes.linear import Standard, logistic
from twoview.methods.probes.metrics import metrics
from twoview.methods.probes.sgd_grid import sgd_grid


@pytest.fixture(scope="module")
def digits():
    """Return scikit-learn's digits: features and labels, 1,200 for training and 597 for testing."""
    x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order].float(), y[order].long()
    return x[:1200], y[:1200], x[1200:], y[1200:]


def scikit_learns(train, label, weight_decay):
    model = LogisticRegression(C=1 / (len(train) * weight_decay), tol=1e-6, max_iter=2000)
    return make_pipeline(StandardScaler(), model).fit(train.numpy(), label.numpy())


@pytest.mark.parametrize("weight_decay", [1e-3, 1e-1])
def test_logistic_is_scikit_learns(digits, weight_decay):
    train, train_label, test, test_label = digits
    model = scikit_learns(train, train_label, weight_decay)
    head = logistic(train, train_label, 10, weight_decay=weight_decay)
    # torch's standard deviation divides by N - 1, scikit-learn's by N: the same up to 1 / (2 N).
    assert np.allclose(head.weight.numpy(), model[1].coef_, atol=5e-3)
    expected = 100 * model.score(test.numpy(), test_label.numpy())
    assert metrics(head.scores(test), test_label).top1 == pytest.approx(expected, abs=0.2)


def test_features_in_parts_are_features_at_once(digits, monkeypatch):
    train, label, test, _ = digits
    whole = logistic(train, label, 10)
    for room in ("linear", "sgd_grid"):
        monkeypatch.setattr(f"twoview.methods.probes.{room}.ROWS", 500)
    parts = logistic(train, label, 10)
    assert torch.allclose(whole.weight, parts.weight, atol=1e-3)
    scores = list(parts.scores(test))
    assert [len(chunk) for chunk in scores] == [500, 97]
    assert torch.allclose(Standard.of(train.double()).std, train.std(0).clamp_min(1e-6), atol=1e-5)


def test_half_precision_and_a_constant_feature_are_welcome(digits):
    train, label, test, test_label = digits
    more, more_test = (torch.cat([x, torch.ones(len(x), 1)], 1).bfloat16() for x in (train, test))
    one = metrics(logistic(train, label, 10).scores(test), test_label).top1
    other = metrics(logistic(more, label, 10).scores(more_test), test_label).top1
    assert one == pytest.approx(other, abs=0.5)


def test_the_heads_of_a_grid_are_torchs_sgd_one_by_one(digits):
    train, label = digits[0][:200], digits[1][:200]
    rates, decays, epochs, batch = (0.01, 0.3), (0.0, 0.1), 3, 64
    grid = sgd_grid(train, label, 10, rates=rates, weight_decays=decays, epochs=epochs, batch=batch, seed=5)
    assert [(one.lr, one.weight_decay) for one in grid.tried] == [(lr, wd) for lr in rates for wd in decays]
    x = Standard.of(train)(train)
    head = torch.nn.Linear(64, 10)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    groups = [{"params": [head.weight], "weight_decay": grid.best.weight_decay}, {"params": [head.bias]}]
    optimizer = torch.optim.SGD(groups, lr=grid.best.lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * 4)
    orders = torch.Generator().manual_seed(5)
    for _ in range(epochs):
        for rows in torch.randperm(200, generator=orders).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(head(x[rows]), label[rows]).backward()
            optimizer.step()
            schedule.step()
    # torch applies the rate to the buffer, as we do, so only rounding differs.
    assert torch.allclose(grid.head.weight, head.weight, atol=1e-5)
    assert torch.allclose(grid.head.bias, head.bias, atol=1e-5)


def test_a_grid_chooses_by_what_was_held_out_and_reaches_scikit_learn(digits):
    train, train_label, test, test_label = digits
    grid = sgd_grid(train, train_label, 10)
    assert grid.best.top1 == max(one.top1 for one in grid.tried) > min(one.top1 for one in grid.tried)
    best = max(100 * scikit_learns(train, train_label, wd).score(test, test_label) for wd in (1e-4, 1e-3, 1e-2))
    assert metrics(grid.head.scores(test), test_label).top1 > best - 1.5  # an image is 0.17 points
    with pytest.raises(ValueError, match="at least 2 training features, one of them to hold out, got 1"):
        sgd_grid(train[:1], train_label[:1], 10)


def test_few_labels_are_drawn_class_by_class():
    label = np.repeat([0, 1, 2], [500, 40, 3])
    one = low_shot.labeled_share(label, 0.01, seed=0)
    assert np.bincount(label[one]).tolist() == [5, 1, 1]
    assert np.bincount(label[low_shot.labeled_share(label, 0.1, 0)]).tolist() == [50, 4, 1]
    assert np.bincount(label[low_shot.labeled_per_class(label, 3, 0)]).tolist() == [3, 3, 3]
    assert (
        one.tolist()
        == low_shot.labeled_share(label, 0.01, 0).tolist()
        != low_shot.labeled_share(label, 0.01, 1).tolist()
    )
    with pytest.raises(ValueError, match="each class must have at least 4 images, got 3 of class 2"):
        low_shot.labeled_per_class(label, 4, 0)


def test_a_list_of_samples_is_read_and_its_faults_are_named(tmp_path):
    path = tmp_path / "few.txt"
    path.write_text("7\n0\n 3\n")
    assert low_shot.read_list(path, 8).tolist() == [7, 0, 3]
    for text, complaint in (
        ("1\n8\n", "few.txt: line 2 must be a sample number below 8, got '8'"),
        ("n01440764_1.JPEG\n", "line 1 must be a sample number"),
        ("1\n2\n1\n", "line 3 must not repeat an earlier sample, got 1"),
        ("", "must list at least one sample number"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=complaint):
            low_shot.read_list(path, 8)


def test_more_labels_are_better_and_splits_differ(digits):
    train, train_label, test, test_label = digits
    found = {}
    for count in (1, 10):
        splits = [low_shot.labeled_per_class(train_label.numpy(), count, seed) for seed in range(3)]
        found[count] = low_shot.low_shot(train, train_label, test, test_label, splits, 10, weight_decay=1e-2)
    one, ten = low_shot.mean(found[1]), low_shot.mean(found[10])
    assert 30 < one.top1 < ten.top1 - 10 and ten.top5 > one.top5
    tops = [each.top1 for each in found[1]]
    assert one.top1 == pytest.approx(np.mean(tops)) and low_shot.spread(found[1]) == pytest.approx(np.std(tops, ddof=1))
    assert one.interval[0] < one.top1 < one.interval[1] and len(one.per_class) == 10
    assert np.isnan(low_shot.spread(found[1][:1]))


@pytest.mark.long
def test_both_solvers_reach_scikit_learns_optimum_on_cifar10(cifar_root):
    """Return features of 10,000 and 10,000 images from an untrained ResNet-small, 256 per image."""
    from twoview.loaders import datasets
    from twoview.methods.backbones import Backbone, build

    torch.manual_seed(0)
    encoder = build(Backbone(width=64)).eval()
    features = []
    with torch.no_grad():
        for split in ("train", "test"):
            samples = datasets.dataset("cifar10").find(cifar_root, split)
            pixels = torch.from_numpy(np.stack([samples.image(n) for n in range(10_000)])).permute(0, 3, 1, 2)
            x = torch.cat([encoder(chunk.float() / 127.5 - 1) for chunk in pixels.split(1000)])
            features += [x, torch.from_numpy(samples.labels[:10_000])]
    train, train_label, test, test_label = features
    expected = 100 * scikit_learns(train, train_label, 1e-3).score(test.numpy(), test_label.numpy())
    exact = logistic(train, train_label, 10, weight_decay=1e-3)
    found = metrics(exact.scores(test), test_label).top1
    grid = sgd_grid(train, train_label, 10, weight_decays=(1e-3,), epochs=100)
    by_sgd = metrics(grid.head.scores(test), test_label).top1
    print(f"scikit-learn {expected:.2f} %, L-BFGS {found:.2f} %, SGD at {grid.best.lr} {by_sgd:.2f} %")
    assert found == pytest.approx(expected, abs=0.2) and by_sgd == pytest.approx(expected, abs=0.2)
