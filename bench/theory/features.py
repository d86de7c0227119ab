"""What a one-layer network has learned of the sparse features that its data are made of."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LogisticRegression, RidgeCV

from twoview.bench.theory.learner import Layer
from twoview.loaders import rng
from twoview.loaders.sparse_coding import SparseCoding

LEARNED = 0.9  # a feature is learned by a neuron of at least this cosine with it, either sign
NEAR_ONE = 0.9  # what is claimed to be near 1 is above it,
FAR_FROM_ONE = 0.5  # and what is claimed not to be is below this
SHIFT = 1 << 19  # between the sample numbers of two independent draws


@dataclass(frozen=True)
class Measures:
    """in_span: mean share of |w_i|^2 inside span(M). best_cosine: median over features of the best neuron's |cosine|.
    coverage: share of features that a neuron has learned. neurons_a_feature, most_neurons: mean and largest number of
    neurons that have learned one. participation: median over neurons of (sum_j C_ij^2)^2 / sum_j C_ij^4, about how
    many features it mixes. recall: share of active latents whose matched neuron fires. false_support: share of the
    matched neurons' firing whose latent is 0. firing: share of all neurons that fire. shared_z, shared_noise: mean
    Sim_f of two x that share z alone or xi alone, over that of x with itself, which is the share of f's variance that
    z or xi alone explains, f being odd; nan where nothing fires. norm: mean |w_i|. bias: mean b_i.
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
    """A linear head on frozen features for y = <w*, z>: R^2 of y, and the accuracy of its sign, on samples unseen."""

    regression: float
    sign: float


def cosines(layer: Layer, data: SparseCoding) -> np.ndarray:
    """C_ij = <w_i, M_j> / |w_i|, (m, d); 0 for a neuron that is 0."""
    along: np.ndarray = layer.weights @ data.dictionary / np.maximum(layer.norms, 1e-30)[:, None]
    return along


def measure(layer: Layer, data: SparseCoding, samples: int = 1024) -> Measures:
    """All of `Measures`, on samples that training never sees and without augmentation."""
    along = np.abs(cosines(layer, data)).astype(np.float64)
    number = np.arange(samples)
    z, noise = data.latents(number), data.noises(number)
    signal = z @ data.dictionary.T
    f = layer.features(signal + noise)
    fired = f != 0
    neurons, features = linear_sum_assignment(along, maximize=True)
    active, matched = z[:, features] != 0, fired[:, neurons]
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
    """The linear probe on f(x), on x itself for no layer. See `probe_latents` for M'x.

    labels: samples that the head is fitted to, and as many others that it is judged on; those of sign 0 are left out
    of the sign's. w* is Gaussian.
    """
    x = data.x(np.arange(2 * labels))
    return _judged(x if layer is None else layer.features(x), data, labels)


def probe_latents(data: SparseCoding, labels: int = 2048) -> Probe:
    """The linear probe on M'x, the best that a linear map of x can do."""
    return _judged(data.x(np.arange(2 * labels)) @ data.dictionary, data, labels)


def _judged(inputs: np.ndarray, data: SparseCoding, labels: int) -> Probe:
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
