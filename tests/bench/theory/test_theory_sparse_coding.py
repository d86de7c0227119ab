"""Masks, gradients and measures match float64 definitions; the moments of Wen and Li's model match to all digits."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twoview.bench.theory.augmentation import Augmentation
from twoview.bench.theory.features import (
    FAR_FROM_ONE,
    NEAR_ONE,
    Measures,
    Probe,
    cosines,
    measure,
    probe,
    probe_latents,
)
from twoview.bench.theory.learner import Layer, Learner, gradients, population_gradient, train
from twoview.bench.theory.moments import expected_in_span, moments
from twoview.bench.theory.sparse_coding import (
    KINDS,
    NOISY,
    NOISY_LEARNER,
    Run,
    decoupling,
    trained,
    with_masks,
    without_masks,
)
from twoview.loaders.sparse_coding import SparseCoding

MEASURES = Measures(
    in_span=0.95, best_cosine=0.95, coverage=0.95, neurons_a_feature=1.0, most_neurons=2.0, participation=1.0,
    recall=0.95, false_support=0.05, firing=0.05, shared_z=0.8, shared_noise=0.05, norm=1.0, bias=0.5,
)  # fmt: skip
AUGMENTATIONS = [
    Augmentation(),
    Augmentation("complementary", 0.3),
    Augmentation("independent", 0.7),
    Augmentation("correlated", 0.4, 0.5),
    Augmentation("correlated", 0.5, -0.8),
    Augmentation("none"),
]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
def test_masks_have_the_stated_probabilities_and_overlap(augmentation):
    count = 200_000
    first, second = augmentation.views(np.ones((count // 50, 50), np.float32), np.arange(count // 50), 1)
    kept, kept_too = (view != 0 for view in (first, second))
    for mask, view, keep in zip((kept, kept_too), (first, second), augmentation.keeps, strict=True):
        assert abs(mask.mean() - keep) < 5 * math.sqrt(keep * (1 - keep) / count) + 1e-9
        assert set(np.unique(view)) <= {np.float32(0), np.float32(1 / keep)}
    both = augmentation.overlap * augmentation.keeps[0] * augmentation.keeps[1]
    assert abs((kept & kept_too).mean() - both) < 5 * math.sqrt(both / count) + 1e-9
    if augmentation.kind == "complementary":
        assert np.array_equal(kept, ~kept_too)


def test_wen_and_lis_views_add_up_to_x():
    x = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    first, second = Augmentation().views(x, np.arange(20), 0)
    assert np.array_equal(first + second, 2 * x)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
def test_the_moments_match_many_samples(augmentation):
    data = SparseCoding(3, 5, 0.5, 0.3, seed=4)
    samples = np.arange(20_000)
    first, second = (view.astype(np.float64) for view in augmentation.views(data.x(samples), samples, 2))
    for left, right, expected in (
        (second, first, augmentation.cross_moment(data.second_moment)),
        (first, first, augmentation.view_moment(data.second_moment, 0)),
        (second, second, augmentation.view_moment(data.second_moment, 1)),
    ):
        error = (left[:, :, None] * right[:, None, :]).std(axis=0) / math.sqrt(len(samples))
        assert (np.abs(left.T @ right / len(samples) - expected) <= 5 * error + 1e-12).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "both"}, "kind must be .* got 'both'"),
        ({"keep": 0.0}, r"keep must be in \(0, 1\), got 0\.0"),
        ({"keep": 1}, r"keep must be in \(0, 1\), got 1"),
        ({"keep": float("nan")}, r"keep must be in \(0, 1\), got nan"),
        ({"correlation": 0.5}, "correlation must be 0 for masks of kind complementary, got 0.5"),
        ({"kind": "correlated", "keep": 0.25, "correlation": -0.5}, r"correlation must be in \[-0\.333, 1\]"),
        ({"kind": "correlated", "correlation": 1.5}, "got 1.5"),
    ],
)
def test_impossible_masks_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Augmentation(**arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("m", 0), ("m", -4), ("unit", "tanh"), ("bias", "late"), ("threshold", 0.0), ("grown", -1.0), ("init", 0.0),
     ("tau", 0.0), ("rate", float("inf")), ("decay", -1.0), ("batch", 1), ("steps", 0)],
)  # fmt: skip
def test_impossible_learners_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must .* got {value!r}"):
        Learner(**{name: value})


@pytest.mark.parametrize("size", [(64, 1024), (128, 2048)])
def test_the_moments_match_the_table(size):
    """All digits of the table of second moments: d = 64, variance sqrt(log(d)) / d and sparsity log(log(d)) / d."""
    data = SparseCoding(*size)
    assert 1.35 < data.active * data.d < 1.65  # |M z|^2
    assert 32.5 < data.variance * data.d1 < 35.5  # |xi|^2
    found = {kind: moments(data, Augmentation(kind)) for kind in ("none", "complementary", "independent")}
    assert found["complementary"].dense == pytest.approx(-data.active * data.d / data.d1, rel=0.02)
    if data.d == 64:
        assert [round(value, 3) for value in found["none"]] == [0.054, 0.032]
        assert [round(value, 4) for value in found["complementary"]] == [0.0208, -0.0014]
        assert round(found["independent"].sparse, 3) == 0.054
        assert found["independent"].dense == pytest.approx(0.0318, abs=1e-4)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
def test_the_moments_of_directions_match_the_matrix(augmentation):
    data = SparseCoding(5, 12, 0.3, 0.1)
    cross = augmentation.cross_moment(data.second_moment)
    inside = data.dictionary.astype(np.float64)
    outside = np.linalg.svd(inside)[0][:, 5:]
    expected = [np.trace(basis.T @ cross @ basis) / basis.shape[1] for basis in (inside, outside)]
    assert list(moments(data, augmentation)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(["symmetric", "plain"]), st.floats(0.5, 20), st.floats(0, 0.5), st.integers(0, 1000))
def test_gradients_match_autograd(unit, tau, bias, seed):
    generator = np.random.default_rng(seed)
    weights, biases = generator.normal(size=(7, 5)), np.full(7, bias)
    first, second = generator.normal(size=(2, 9, 5))
    loss, of_weights, of_biases = gradients(Layer(weights, biases, unit), first, second, tau)
    w, b = torch.tensor(weights, requires_grad=True), torch.tensor(biases, requires_grad=True)

    def f(x):
        inner = torch.tensor(x) @ w.T
        return torch.relu(inner - b) - (torch.relu(-inner - b) if unit == "symmetric" else 0)

    plain = tau * torch.nn.functional.cross_entropy(f(first) @ f(second).detach().T / tau, torch.arange(9))
    plain.backward()
    assert loss == pytest.approx(plain.item(), rel=1e-9)
    assert of_weights == pytest.approx(w.grad.numpy(), rel=1e-9, abs=1e-12)
    if bias:  # at b = 0 the symmetric unit has no derivative by b where it does not fire
        assert of_biases == pytest.approx(b.grad.numpy(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["complementary", "independent", "none"])
def test_the_sampled_gradient_matches_the_population_gradient_for_small_weights(kind):
    data, augmentation, batch = SparseCoding(4, 8, 0.3, 0.1), Augmentation(kind), 300
    weights = 1e-4 * np.random.default_rng(0).normal(size=(3, 8))
    layer = Layer(weights, np.zeros(3))
    sampled = []
    for part in range(40):
        samples = part * batch + np.arange(batch)
        first, second = (view.astype(np.float64) for view in augmentation.views(data.x(samples), samples, 0))
        sampled.append(gradients(layer, first, second, 2.0)[1])
    expected = population_gradient(weights, augmentation.cross_moment(data.second_moment), batch)
    error = np.std(sampled, axis=0) / math.sqrt(len(sampled) - 1)
    assert (np.abs(np.mean(sampled, axis=0) - expected) < 5 * error).all()
    assert (np.abs(expected) > 5 * error).any()


def test_measures_tell_a_perfect_network_from_one_that_learned_nothing():
    data = SparseCoding(16, 256, 0.15, 0.01)
    perfect = Layer(data.dictionary.T.copy(), np.full(16, 0.5, np.float32))
    found = measure(perfect, data)
    assert (found.coverage, found.neurons_a_feature, found.most_neurons) == (1, 1, 1)
    assert found.in_span == pytest.approx(1, abs=1e-5) and found.participation == pytest.approx(1, abs=1e-5)
    assert found.recall > 0.999 and found.false_support < 0.001
    assert found.firing == pytest.approx(0.15, abs=0.02)
    assert found.shared_z > 0.9 and abs(found.shared_noise) < 0.2
    basis = np.linalg.qr(np.concatenate([data.dictionary, np.eye(256)[:, :30]], axis=1))[0]
    outside = basis.T[16:].astype(np.float32)
    dense = measure(Layer(outside, np.zeros(30, np.float32)), data)
    assert dense.in_span < 1e-4 and dense.coverage == 0 and dense.firing == 1
    assert abs(dense.shared_z) < 0.1 and dense.shared_noise == pytest.approx(1, abs=1e-3)
    assert math.isnan(measure(Layer(outside, np.full(30, 99, np.float32)), data).shared_z)


def test_cosines_and_participation_match_values_by_hand():
    data = SparseCoding(3, 6, 0.5)
    weights = np.stack([2 * data.dictionary[:, 0], data.dictionary[:, 1] - data.dictionary[:, 2]])
    layer = Layer(weights, np.zeros(2, np.float32))
    assert cosines(layer, data) == pytest.approx(np.array([[1, 0, 0], [0, 0.5**0.5, -(0.5**0.5)]]), abs=1e-5)
    found = measure(layer, data, 10)
    assert found.participation == pytest.approx(1.5, abs=1e-4) and found.coverage == pytest.approx(1 / 3)


def test_the_probe_is_the_best_linear_map():
    data = SparseCoding(8, 16, 0.3, 0.1)
    latents = probe_latents(data, 1500)
    assert latents.regression == pytest.approx(0.3 / (0.3 + 0.1), abs=0.05)
    assert probe(None, data, 1500).regression == pytest.approx(latents.regression, abs=0.02)
    assert probe(Layer(data.dictionary.T.copy(), np.full(8, 0.4, np.float32)), data, 1500).sign > latents.sign
    silent = probe(Layer(np.zeros((4, 16), np.float32), np.ones(4, np.float32)), data, 300)
    assert abs(silent.regression) < 0.05


SMALL = SparseCoding(8, 64, 0.2, 0.02)
QUICK = Learner(m=24, batch=128, steps=300, rate=0.5, tau=4.0, decay=0.005, threshold=0.4, highest=0.8)


def test_training_is_repeatable_and_learns_sparse_features():
    found = trained(SMALL, Augmentation(), QUICK, points=3)
    again = trained(SMALL, Augmentation(), QUICK, points=3)
    (set_in,) = set(found.steps) - {0, 100, 200, 300}  # one more measurement, when the threshold sets in
    at = list(found.steps).index(set_in)
    assert found.measures[at - 1].bias == 0 < found.measures[at].bias
    assert found.measures[at].norm == pytest.approx(QUICK.grown * found.measures[0].norm, rel=0.05)
    assert found.curve("norm") == pytest.approx(again.curve("norm"), rel=1e-4)
    assert found.measures[0].bias == 0 < found.end.bias
    assert found.measures[0].in_span == pytest.approx(8 / 64, abs=0.05) and found.end.in_span > 0.9
    assert found.end.coverage > found.measures[0].coverage
    assert found.losses[-1] < found.losses[1]


@pytest.mark.parametrize("bias", ["none", "staged", "fixed", "learned"])
def test_each_kind_of_bias_behaves_as_described(bias):
    learner = replace(QUICK, bias=bias, steps=120)
    unit = math.sqrt(2 * math.log(8) / 8)
    started = False
    for _, _, layer in train(SMALL, Augmentation(), learner):
        ratios = layer.biases / layer.norms / unit
        if not started and layer.biases.any():
            started = True
            assert ratios == pytest.approx(np.full(24, learner.threshold), rel=1e-3)
    assert started == (bias != "none")
    if bias == "fixed":
        assert ratios == pytest.approx(np.full(24, learner.threshold), rel=1e-3)
    if bias == "staged":
        assert (ratios > learner.threshold * 0.999).all() and (ratios < learner.highest * 1.001).all()
        assert ratios.max() > learner.threshold
    if bias == "learned":
        assert (layer.biases >= 0).all() and ratios.std() > 0


@pytest.mark.parametrize("kind", ["complementary", "none"])
def test_the_expected_energy_in_span_matches_the_gradient_flow(kind):
    """Compared with the flow of the population gradient, step by step."""
    learner = replace(QUICK, bias="none", decay=0.01)
    cross = Augmentation(kind).cross_moment(SMALL.second_moment)
    weights = np.random.default_rng(0).normal(size=(2000, 64))
    first = np.linalg.norm(weights)
    while np.linalg.norm(weights) < learner.grown * first:
        weights = weights - 0.1 * (population_gradient(weights, cross, 10**9) + learner.decay * weights)
    dictionary = SMALL.dictionary.astype(np.float64)
    share = (np.linalg.norm(weights @ dictionary) / np.linalg.norm(weights)) ** 2
    assert expected_in_span(SMALL, Augmentation(kind), learner) == pytest.approx(share, abs=0.02)


def test_the_verdicts_follow_from_the_measures():
    early = replace(MEASURES, coverage=0.2)
    untouched = replace(MEASURES, in_span=0.1, bias=0.0, norm=0.2)
    learned = Run(np.arange(3), np.zeros(3), [untouched, early, MEASURES], Probe(0.95, 0.95))
    silent = replace(
        MEASURES,
        coverage=0.0,
        in_span=0.1,
        most_neurons=0.0,
        participation=9.0,
        recall=0.5,
        shared_z=0.1,
        shared_noise=0.9,
    )
    dense = Run(np.arange(3), np.zeros(3), [silent] * 3, Probe(0.05, 0.5))
    noisy = SparseCoding(8, 128, 0.02, 0.3)

    def judged(data, runs):
        return [*with_masks(data, QUICK, runs), *without_masks(data, QUICK, runs)]

    as_claimed = judged(noisy, {"complementary": learned, "none": dense, "independent": dense})
    assert {claim.verdict for claim in as_claimed} == {"holds"}
    reversed_ = judged(noisy, {"complementary": dense, "none": learned, "independent": learned})
    assert {claim.verdict for claim in reversed_} == {"fails"}
    clear = judged(SMALL, {"complementary": learned, "none": dense, "independent": dense})
    assert [claim.verdict for claim in clear[-6:]] == ["not testable at this size"] * 6
    assert decoupling()[0].verdict == "holds"
    for claim in [*as_claimed, *decoupling()]:
        assert claim.figure and len({len(series) for series in claim.figure.values()}) == 1


@pytest.mark.parametrize("kind", ["none", "independent"])
def test_the_claims_without_masks_are_testable_at_the_chosen_noise(kind):
    assert expected_in_span(NOISY, Augmentation(kind), NOISY_LEARNER) < FAR_FROM_ONE
    assert expected_in_span(NOISY, Augmentation("complementary"), NOISY_LEARNER) > NEAR_ONE


def test_too_many_neurons_for_a_feature_or_a_missing_stage_fails_its_claim():
    crowded = replace(MEASURES, most_neurons=3.0)  # of 24
    run = Run(np.arange(2), np.zeros(2), [MEASURES, crowded], Probe(0.95, 0.95))
    found = {claim.name: claim.verdict for claim in with_masks(SMALL, QUICK, dict.fromkeys(KINDS, run))}
    assert found["With complementary masks no feature is learned by too many neurons"] == "fails"
    (stages,) = (verdict for name, verdict in found.items() if "stages" in name)
    assert stages == "fails", "every feature had its neuron before the threshold set in"
