"""Wen and Li's learner: one layer of soft-threshold neurons, a contrastive loss without normalization, plain SGD."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twoview.bench.theory.augmentation import Augmentation
from twoview.loaders import rng
from twoview.loaders.sparse_coding import SparseCoding

PAPER = "Wen and Li (ICML 2021), recalled, not read"
FIRST_TRAINING_SAMPLE = 1 << 20  # smaller sample numbers are for measuring


@dataclass(frozen=True)
class Learner:
    """The neurons and how they are trained. Raises ValueError, naming the argument and its value, if one is invalid.

    m: number of neurons. unit: symmetric is h = ReLU(<w, x> - b) - ReLU(-<w, x> - b), as in the theorem; plain is
    h = ReLU(<w, x> - b). init: standard deviation of the entries of w at the start, where b is 0. tau: temperature.
    rate: learning rate. decay: lambda of (lambda / 2) sum |w_i|^2. batch: pairs per step; the negatives of a first
    view are the second views of the other pairs.

    bias: b is 0 at the start. Unless bias is "none", b becomes threshold * c_i once the mean norm of the weights has
    grown to `grown` times its initial value, where c_i = sqrt(2 log(d) / d) |w_i| and d is the number of features.

    - "none": b stays 0, which makes a symmetric network linear.
    - "fixed": b is threshold * c_i in every step from then on.
    - "learned": b follows its gradient from then on, and stays at or above 0.
    - "staged": b is multiplied by 1 + rate / d in each step, and kept between threshold * c_i and highest * c_i. This
      is the paper's schedule as we recall it; the bounds are ours, because the weights and b grow at different rates.

    steps: number of SGD steps. seed: seed of the initial weights.
    """

    m: int = 256
    unit: Literal["symmetric", "plain"] = "symmetric"
    bias: Literal["none", "staged", "fixed", "learned"] = "staged"
    threshold: float = 1.0
    highest: float = 1.5
    grown: float = 4.0
    init: float = 1e-3
    tau: float = 17.0
    rate: float = 0.1
    decay: float = 0.01
    batch: int = 512
    steps: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.m < 1:
            raise ValueError(f"m must be at least 1, got {self.m}")
        if self.unit not in ("symmetric", "plain"):
            raise ValueError(f"unit must be symmetric or plain, got {self.unit!r}")
        if self.bias not in ("none", "staged", "fixed", "learned"):
            raise ValueError(f"bias must be none, staged, fixed or learned, got {self.bias!r}")
        for name in ("threshold", "highest", "grown", "init", "tau", "rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.decay < math.inf:
            raise ValueError(f"decay must be at least 0, got {self.decay}")
        if self.highest < self.threshold:
            raise ValueError(f"highest must be at least threshold ({self.threshold}), got {self.highest}")
        if self.batch < 2:
            raise ValueError(f"batch must be at least 2, one pair and one negative, got {self.batch}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@dataclass
class Layer:
    """The network. weights: (m, d1). biases: (m,), not negative. All computations use their common dtype."""

    weights: np.ndarray
    biases: np.ndarray
    unit: str = "symmetric"

    def features(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs of the m neurons, (n, m), for inputs x, (n, d1)."""
        inner = x @ self.weights.T
        # Soft threshold: <w, x> - clip(<w, x>, -b, b); without the lower bound it is ReLU(<w, x> - b).
        lowest = -self.biases if self.unit == "symmetric" else -np.inf
        outputs: np.ndarray = inner - np.clip(inner, lowest, self.biases)
        return outputs

    @property
    def norms(self) -> np.ndarray:
        """The norms |w_i|, (m,)."""
        norms: np.ndarray = np.linalg.norm(self.weights, axis=1)
        return norms


def gradients(layer: Layer, first: np.ndarray, second: np.ndarray, tau: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the loss of a batch of pairs, and its gradients for weights (m, d1) and biases (m,), without decay.

    first, second: x+ and x++, (n, d1). The loss is L = -tau mean_i log(e^{S_ii / tau} / sum_k e^{S_ik / tau}) with
    S_ik = <f(x+_i), StopGrad f(x++_k)>.
    """
    anchors, others = layer.features(first), layer.features(second)
    logits = anchors @ others.T / tau
    logits -= logits.max(axis=1, keepdims=True)
    likelihood = np.exp(logits)
    total = likelihood.sum(axis=1, keepdims=True)
    loss = -tau * float(np.mean(np.diag(logits) - np.log(total[:, 0])))
    # dL / df(x+_i) = (sum_k p_ik f(x++_k) - f(x++_i)) / n, where p is the softmax of the logits.
    of_features = ((likelihood / total) @ others - others) / len(first)
    # A neuron that does not fire has no gradient; for one that does, dh / db is minus the sign of its output.
    of_inner = of_features * (anchors != 0)
    return loss, of_inner.T @ first, -(of_inner * np.sign(anchors)).sum(axis=0)


def population_gradient(weights: np.ndarray, cross_moment: np.ndarray, batch: int) -> np.ndarray:
    """Return the expected weight gradient, (m, d1), of a linear layer (b = 0) as its weights go to 0.

    It is -(1 - 1/n) W E[x++ x+']: all similarities are then 0, so that every second view of the batch, one positive and
    n - 1 negatives of mean 0, has weight 1 / n. The next term is of third order in W.
    """
    gradient: np.ndarray = -(1 - 1 / batch) * weights @ cross_moment
    return gradient


def train(data: SparseCoding, augmentation: Augmentation, learner: Learner) -> Iterator[tuple[int, float, Layer]]:
    """Train and yield (number of steps done, loss of the last step, layer), 1 + steps times.

    The loss is nan before the first step. The layer is changed in place. Every step uses new samples.
    """
    key = np.uint64(learner.seed)
    weights = rng.normals(key, 0, np.arange(learner.m), 0, rng.INIT, data.d1)
    weights *= np.float32(learner.init)
    layer = Layer(weights, np.zeros(learner.m, np.float32), learner.unit)
    start = float(layer.norms.mean())
    unit_threshold = math.sqrt(2 * math.log(data.d) / data.d)
    thresholded = False
    yield 0, math.nan, layer
    for step in range(learner.steps):
        samples = FIRST_TRAINING_SAMPLE + step * learner.batch + np.arange(learner.batch)
        first, second = augmentation.views(data.x(samples), samples, data.seed)
        loss, of_weights, of_biases = gradients(layer, first, second, learner.tau)
        layer.weights -= np.float32(learner.rate) * (of_weights + np.float32(learner.decay) * layer.weights)
        # The threshold sets in once, when the weights have grown enough; what follows depends on the kind of bias.
        if learner.bias != "none" and not thresholded and layer.norms.mean() >= learner.grown * start:
            thresholded = True
            layer.biases[:] = learner.threshold * unit_threshold * layer.norms
        elif thresholded and learner.bias == "fixed":
            layer.biases[:] = learner.threshold * unit_threshold * layer.norms
        elif thresholded and learner.bias == "staged":
            lowest, highest = (bound * unit_threshold * layer.norms for bound in (learner.threshold, learner.highest))
            layer.biases[:] = np.clip(layer.biases * (1 + learner.rate / data.d), lowest, highest)
        elif thresholded and learner.bias == "learned":
            layer.biases[:] = np.maximum(layer.biases - np.float32(learner.rate) * of_biases, 0)
        yield step + 1, loss, layer
