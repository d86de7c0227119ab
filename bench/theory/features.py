"""Measure how well a one-layer network has learned the sparse features that its data are made of."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LogisticRegression, RidgeCV

from twoview.bench.theory.learner import Layer
from twoview.loaders import rng
from twoview.loaders.sparse_coding import SparseCoding

LEARNED = 0.9  # a neuron has learned a feature if its |cosine| with it is above this
NEAR_ONE = 0.9  # a measure that is claimed to be near 1 must be above this
FAR_FROM_ONE = 0.5  # a measure that is claimed not to be near 1 must be below this
SHIFT = 1 << 19  # distance of the sample numbers of two independent draws


@dataclass(frozen=True)
class Measures:
    """Measures of a layer with weights w_i, for data x = M z + xi whose features are the columns M_j.

    in_span: mean share of |w_i|^2 that lies in span(M). best_cosine: for each feature the largest |cosine| of a neuron;
    its median over features. coverage: share of features that a neuron has learned. neurons_a_feature, most_neurons:
    mean and largest number of neurons that have learned the same feature.
    participation: median over neurons of (sum_j C_ij^2)^2 / sum_j C_ij^4, about how many features a neuron mixes.
    Each feature is matched with a neuron of its own. recall: share of active latents whose matched neuron fires.
    false_support: among the firings of matched neurons, the share whose latent is 0. firing: share of all neurons that
    fire. shared_z, shared_noise: mean similarity Sim_f of two x that share only z, or only xi, relative to the
    similarity of x with itself; as f is odd, this is the share of f's variance that z or xi alone explains. nan if
    nothing fires.
    norm: mean |w_i|. bias: mean b_i.
    """

    in_span: float
    best_cosine: float
    coverage: float
    neurons_a_feature: float
    most_neurons: float
    participation: float
    recall: float
    false_support: float
    firing: float
    shared_z: float
    shared_noise: float
    norm: float
    bias: float


@dataclass(frozen=True)
class Probe:
    """Scores of a linear head on frozen features for y = <w*, z>, on unseen samples.

    regression: R^2 of y. sign: accuracy of the sign of y, from 0 to 1.
    """

    regression: float
    sign: float


def cosines(layer: Layer, data: SparseCoding) -> np.ndarray:
    """Return C_ij = <w_i, M_j> / |w_i|, (m, d); 0 for a neuron whose weights are 0."""
    along: np.ndarray = layer.weights @ data.dictionary / np.maximum(layer.norms, 1e-30)[:, None]
    return along


def measure(layer: Layer, data: SparseCoding, samples: int = 1024) -> Measures:
    """Return all `Measures`, on samples that training never sees, without augmentation."""
    along = np.abs(cosines(layer, data)).astype(np.float64)
    number = np.arange(samples)
    z, noise = data.latents(number), data.noises(number)
    signal = z @ data.dictionary.T
    f = layer.features(signal + noise)
    fired = f != 0
    # Each feature is matched with a neuron of its own, so that the sum of |cosines| is largest.
    neurons, features = linear_sum_assignment(along, maximize=True)
    active, matched = z[:, features] != 0, fired[:, neurons]
    # Mean of Sim_f(x, x') = <f(x), f(x')>: here x' is x; below it shares only z with x, or only the noise.
    itself = float(np.mean(np.sum(f * f, axis=1, dtype=np.float64)))
    of_z = layer.features(signal + data.noises(number + SHIFT))
    of_noise = layer.features(data.latents(number + SHIFT) @ data.dictionary.T + noise)
    similar = [float(np.mean(np.sum(f * g, axis=1, dtype=np.float64))) for g in (of_z, of_noise)]
    squares, learners = along**2, np.sum(along > LEARNED, axis=0)
    return Measures(
        in_span=float(squares.sum(axis=1).mean()),
        best_cosine=float(np.median(along.max(axis=0))),
        coverage=float(np.mean(along.max(axis=0) > LEARNED)),
        neurons_a_feature=float(learners.mean()),
        most_neurons=float(learners.max()),
        participation=float(np.median(squares.sum(axis=1) ** 2 / np.maximum((squares**2).sum(axis=1), 1e-30))),
        recall=float((active & matched).sum() / max((z != 0).sum(), 1)),
        false_support=float((~active & matched).sum() / max(matched.sum(), 1)),
        firing=float(fired.mean()),
        shared_z=similar[0] / itself if itself else float("nan"),
        shared_noise=similar[1] / itself if itself else float("nan"),
        norm=float(layer.norms.mean()),
        bias=float(layer.biases.mean()),
    )


def probe(layer: Layer | None, data: SparseCoding, labels: int = 2048) -> Probe:
    """Return the scores of a linear probe on f(x), or on x itself without a layer. See `probe_latents` for M'x.

    labels: number of samples that the head is fitted to, and of other samples that it is scored on. Samples with y = 0
    do not count for the sign. w* is Gaussian.
    """
    x = data.x(np.arange(2 * labels))
    return _judged(x if layer is None else layer.features(x), data, labels)


def probe_latents(data: SparseCoding, labels: int = 2048) -> Probe:
    """Return the scores of a linear probe on M'x, the best that a linear map of x can do."""
    return _judged(data.x(np.arange(2 * labels)) @ data.dictionary, data, labels)


def _judged(inputs: np.ndarray, data: SparseCoding, labels: int) -> Probe:
    """Fit linear heads to the first `labels` rows of the inputs, (2 labels, features), and score them on the others."""
    star = rng.normals(np.uint64(data.seed), 0, np.array([0]), 1, rng.DICTIONARY, data.d)[0]
    y = (data.latents(np.arange(2 * labels)) @ star).astype(np.float64)
    scale = float(np.sqrt(np.mean(inputs[:labels] ** 2))) or 1.0
    inputs = (inputs / scale).astype(np.float64)
    fit, held_out = slice(None, labels), slice(labels, None)
    ridge = RidgeCV(np.logspace(-2, 5, 15)).fit(inputs[fit], y[fit])
    regression = float(ridge.score(inputs[held_out], y[held_out]))
    signed = y != 0
    train, test = signed[fit], signed[held_out]
    logistic = LogisticRegression(C=0.1, max_iter=200).fit(inputs[fit][train], y[fit][train] > 0)
    return Probe(regression, float(logistic.score(inputs[held_out][test], y[held_out][test] > 0)))
