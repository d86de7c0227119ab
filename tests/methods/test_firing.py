"""Firing and separation against closed forms and plain definitions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import silhouette_score
from torch import nn

from twoview.methods import backbones
from twoview.methods.backbones import Backbone
from twoview.methods.probes.firing import Layer, Watched, firing_rate, sparseness
from twoview.methods.probes.separation import directions, separation, tsne


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_sparseness_is_least_where_one_channel_fires_and_1_where_all_fire_alike(channels):
    assert sparseness(3 * torch.eye(channels)).tolist() == pytest.approx([1 / channels] * channels)
    assert sparseness(torch.full((2, channels), 0.3)).tolist() == pytest.approx([1, 1])


def test_sparseness_is_treves_and_rolls_ratio_and_leaves_silent_images_out():
    mean = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [0.0, 5.0, 5.0]])
    assert sparseness(mean).tolist() == pytest.approx([2**2 / (14 / 3), (10 / 3) ** 2 / (50 / 3)])


def test_a_channel_fires_for_an_image_with_a_mean_above_0():
    mean = torch.tensor([[0.0, 1e-6, 2.0], [0.0, 0.0, 1.0]])
    assert firing_rate(Layer(mean, mean)).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("backbone", "relus"),
    [
        (Backbone(name="alexnet", width=8), 5),
        (Backbone(name="wide-resnet", depth=10, widen=1), 7),
        (Backbone(name="resnet-small", width=8), 7),
    ],
    ids=lambda one: getattr(one, "name", one),
)
def test_every_relu_is_noted_whether_module_or_function(backbone, relus):
    torch.manual_seed(0)
    encoder = backbones.build(backbone).eval()
    watched, x = Watched(encoder), torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        out = torch.cat([watched(x[:2]), watched(x[2:])])
        assert torch.allclose(out, encoder(x), atol=1e-5)
    layers = watched.layers()
    assert len(layers) == relus and all(len(layer.mean) == 3 for layer in layers)
    if backbone.name != "alexnet":  # which pools behind its last ReLU
        assert torch.allclose(layers[-1].mean, out, atol=1e-5), "the last one's means are the representation"


def test_what_is_noted_is_what_the_relu_gave_before_anything_changed_it():
    watched, x = Watched(nn.Sequential(nn.ReLU(), nn.Hardtanh(0, 1e-3, inplace=True))), torch.randn(4, 2, 5, 5)
    watched(x)
    (layer,) = watched.layers()
    assert torch.allclose(layer.mean, F.relu(x).mean((2, 3))) and torch.equal(
        layer.positive, (x > 0).float().mean((2, 3))
    )


def test_one_module_used_twice_is_two_layers():
    relu = nn.ReLU(inplace=True)
    watched = Watched(nn.Sequential(relu, nn.Conv2d(2, 5, 1), relu, nn.Flatten(), relu))
    watched(torch.randn(4, 2, 3, 3))
    assert [layer.mean.shape for layer in watched.layers()] == [(4, 2), (4, 5)], "and what is no map is none"


def test_an_encoder_without_relus_is_an_error():
    watched = Watched(nn.Conv2d(3, 2, 1))
    watched(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="Conv2d has no ReLU"):
        watched.layers()


def test_separation_is_scikit_learn_s_silhouette_and_a_vote_of_the_others():
    generator = np.random.default_rng(0)
    label = np.arange(60) % 3
    x = directions(torch.from_numpy(generator.normal(size=(60, 5)) + 2 * np.eye(5)[label]))
    assert np.allclose(np.linalg.norm(x, axis=1), 1)
    found = separation(x, label, 5)
    assert found.silhouette == pytest.approx(float(silhouette_score(x, label)))
    distance = np.linalg.norm(x[:, None] - x[None], axis=2) + np.diag([np.inf] * 60)
    votes = np.eye(3)[label[np.argsort(distance, 1)[:, :5]]].sum(1)
    assert found.knn == pytest.approx(100 * np.mean(votes.argmax(1) == label))


def test_classes_that_lie_apart_are_told_apart_in_the_representation_and_in_the_plot():
    label = np.repeat([0, 1], 30)
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) + 20 * label[:, None]
    assert separation(x, label, 3).knn == 100 and separation(x, label, 3).silhouette > 0.8
    points = tsne(x, 10, seed=0)
    assert points.shape == (60, 2) and separation(points, label, 3).knn == 100
    assert np.array_equal(points, tsne(x, 10, seed=0))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda x, label: separation(x, np.zeros(8, int), 2), "at least two classes"),
        (lambda x, label: separation(x, label, 8), "k must be from 1 to 7, the neighbors of each of 8 images, got 8"),
        (lambda x, label: tsne(x, 8.0, 0), "perplexity must be above 0 and below the number of images, 8, got 8"),
    ],
)
def test_what_cannot_be_measured_is_named(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        wrong(np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2)
