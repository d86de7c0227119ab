"""Wen and Li's theorems as measurements: what a contrastive layer learns with and without complementary masks.

The theorems are asymptotic in d. A claim about the network without complementary masks can be tested only where noise
dominates when the threshold sets in: in every linear network, sparse directions grow a little faster than dense ones
and outgrow them in the end. `expected_in_span` shows where that has happened. It has happened at `DATA`, where the
claims about complementary masks are tested, so the other claims are tested at `NOISY`. The limits that decide the
verdicts are constants of `twoview.bench.theory.features`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np

from twoview.bench.evidence.claims import Claim, percent, verdict
from twoview.bench.theory import sweeps
from twoview.bench.theory.augmentation import Augmentation, Kind
from twoview.bench.theory.features import (
    FAR_FROM_ONE,
    LEARNED,
    NEAR_ONE,
    Measures,
    Probe,
    measure,
    probe,
    probe_latents,
)
from twoview.bench.theory.learner import PAPER, Learner, train
from twoview.bench.theory.moments import expected_in_span, moments
from twoview.bench.theory.parallel import side_by_side
from twoview.loaders.sparse_coding import SparseCoding

KINDS: tuple[Kind, ...] = ("complementary", "none", "independent")
WORDS = {"complementary": "complementary masks", "none": "no augmentation", "independent": "independent masks"}
DATA = SparseCoding(d=64, d1=1024, sparsity=4 / 64)
LEARNER = Learner(m=256, batch=256, steps=1400, rate=0.5, decay=0.005)
# The noise variance is 4 times sqrt(log d) / d: the theorem leaves the constant open. Larger x need a smaller rate.
NOISY = SparseCoding(d=16, d1=1024, sparsity=2 / 16, noise=4 * math.sqrt(math.log(16)) / 16)
NOISY_LEARNER = Learner(m=64, batch=512, steps=1500, rate=0.1, decay=0.005)


@dataclass(frozen=True)
class Run:
    """The measurements of one training run, at some of its steps.

    steps: int64 (k,), the last one being the end. losses: float64 (k,), the first of which is nan. measures: at each of
    the steps. probe: scores of the linear probe on f at the end.
    """

    steps: np.ndarray
    losses: np.ndarray
    measures: list[Measures]
    probe: Probe

    @property
    def end(self) -> Measures:
        """The measures at the end of training."""
        return self.measures[-1]

    def curve(self, name: str) -> np.ndarray:
        """Return one of the measures at each of the steps, float64 (k,)."""
        return np.array([getattr(measures, name) for measures in self.measures])


def trained(data: SparseCoding, augmentation: Augmentation, learner: Learner, points: int = 20) -> Run:
    """Train, and measure at the start, at `points` more steps and when the threshold sets in; then fit the probe."""
    every = max(learner.steps // points, 1)
    steps: list[int] = []
    losses: list[float] = []
    measures: list[Measures] = []
    for step, loss, layer in train(data, augmentation, learner):
        sets_in = bool(layer.biases.any()) and not measures[-1].bias
        if sets_in or step % every == 0 or step == learner.steps:
            steps.append(step)
            losses.append(loss)
            measures.append(measure(layer, data))
    return Run(np.array(steps), np.array(losses), measures, probe(layer, data))


def run() -> list[Claim]:
    """Return all claims, which take six training runs and the smaller runs of the sweeps."""

    def one(setting: tuple[SparseCoding, Learner], kind: Kind) -> Run:
        data, learner = setting
        return trained(data, Augmentation(kind), learner)

    points = [*product(((DATA, LEARNER), (NOISY, NOISY_LEARNER)), KINDS)]
    runs = side_by_side(lambda point: one(*point), points)
    clear, noisy = (dict(zip(KINDS, some, strict=True)) for some in (runs[: len(KINDS)], runs[len(KINDS) :]))
    return [
        *decoupling(),
        *with_masks(DATA, LEARNER, clear),
        *without_masks(NOISY, NOISY_LEARNER, noisy),
        *sweeps.run(),
    ]


def decoupling() -> list[Claim]:
    """Return the claim about second moments, in expectation and at the paper's own rates. It needs no training."""
    sizes = [SparseCoding(d, 16 * d) for d in (16, 32, 64, 128)]
    found = {kind: [moments(data, Augmentation(kind)) for data in sizes] for kind in KINDS}
    masked = all(pair.sparse > 0 >= pair.dense for pair in found["complementary"])
    unmasked = all(pair.dense > 0 for kind in ("none", "independent") for pair in found[kind])
    listed = "; ".join(f"{WORDS[kind]} {pairs[2].sparse:.4f} and {pairs[2].dense:.4f}" for kind, pairs in found.items())
    figure = {"over d": np.array([data.d for data in sizes], float)}
    for kind, pairs in found.items():
        figure[f"{WORDS[kind]}, sparse"] = np.array([pair.sparse for pair in pairs])
        figure[f"{WORDS[kind]}, dense"] = np.array([pair.dense for pair in pairs])
    return [
        Claim(
            name="Complementary masks alone decouple sparse from dense features, before any training",
            source=f"{PAPER}; the moments follow from the model",
            measured="Cross moment of the two views along the sparse directions M_j and along dense ones, in "
            f"expectation at d = 64 and d1 = 1,024: {listed}.",
            expected="At d = 16, 32, 64 and 128: with complementary masks the sparse one is positive and the dense one "
            "is not; otherwise the dense one is positive, too.",
            verdict=verdict(masked and unmasked),
            figure=figure,
        )
    ]


def with_masks(data: SparseCoding, learner: Learner, runs: Mapping[Kind, Run]) -> list[Claim]:
    """Return the claims about complementary masks, from one run for each kind of augmentation."""
    setting, raw, latents = _setting(data, learner), probe(None, data), probe_latents(data)
    masked = runs["complementary"]
    start, end, head = masked.measures[0], masked.end, masked.probe
    # Index of the measurement at which the threshold set in.
    set_in = next((at for at, one in enumerate(masked.measures) if one.bias), len(masked.measures) - 1)
    early = masked.measures[set_in]
    probed = (
        f"On f, R^2 is {head.regression:.2f} and {percent(head.sign)} of the signs are right; on x they are "
        f"{raw.regression:.2f} and {percent(raw.sign)}, on M'x {latents.regression:.2f} and {percent(latents.sign)} "
        f"({setting})."
    )
    probes = _probes({**{WORDS[kind]: run.probe for kind, run in runs.items()}, "x": raw, "M'x": latents})

    def claim(name: str, measured: str, expected: str, holds: bool, figure: Mapping[str, np.ndarray]) -> Claim:
        return Claim(f"With complementary masks {name}", PAPER, measured, expected, verdict(holds), figure)

    return [
        claim(
            "every sparse feature is learned by a neuron",
            f"Coverage is {end.coverage:.2f}; the median feature's best cosine is {end.best_cosine:.2f} ({setting}).",
            f"Coverage above {NEAR_ONE}: the share of features with a neuron of cosine above {LEARNED}.",
            end.coverage > NEAR_ONE,
            _curves(runs, "coverage"),
        ),
        claim(
            "no feature is learned by too many neurons",
            f"A feature is learned by {end.neurons_a_feature:.1f} neurons on average and by {end.most_neurons:.0f} at "
            f"most ({setting}).",
            f"No feature is learned by more than a tenth of the {learner.m} neurons, and some feature is learned (the "
            "threshold is ours).",
            0 < end.most_neurons <= learner.m / 10,
            _curves(runs, "most_neurons"),
        ),
        claim(
            "what lies outside span(M) is negligible",
            f"The share of the weights' energy in span(M) is {end.in_span:.2f}; at the start it was "
            f"{start.in_span:.2f} ({setting}).",
            f"Above {NEAR_ONE}.",
            end.in_span > NEAR_ONE,
            _curves(runs, "in_span"),
        ),
        claim(
            "a neuron is made of O(1) features",
            f"The median neuron's participation ratio is {end.participation:.1f} features; at the start it was "
            f"{start.participation:.1f} ({setting}).",
            "Below 2 features.",
            end.participation < 2,
            _curves(runs, "participation"),
        ),
        claim(
            "neurons fire sparsely, and on their feature's support",
            f"{percent(end.firing)} of the neurons fire for an x; {percent(end.recall)} of the active features fire "
            f"their neuron, and {percent(end.false_support)} of that firing is false ({setting}).",
            f"Recall above {100 * NEAR_ONE:.0f} % and false firing below {100 * (1 - NEAR_ONE):.0f} %.",
            end.recall > NEAR_ONE and end.false_support < 1 - NEAR_ONE,
            _curves(runs, "firing"),
        ),
        claim(
            "training has stages: weights grow along the features, then a threshold makes a neuron of each",
            f"When the threshold sets in, at step {masked.steps[set_in]:,}, the weights are "
            f"{early.norm / start.norm:.1f} times as long, {early.in_span:.2f} of their energy is in span(M) and "
            f"coverage is {early.coverage:.2f}; in the end it is {end.coverage:.2f} ({setting}).",
            f"At that step the share in span(M) is above {NEAR_ONE} and coverage below {FAR_FROM_ONE}; in the end "
            f"coverage is above {NEAR_ONE}. The step itself follows from the bias schedule.",
            early.in_span > NEAR_ONE and early.coverage < FAR_FROM_ONE and end.coverage > NEAR_ONE,
            {
                "over steps": masked.steps.astype(float),
                **{name: masked.curve(name) for name in ("in_span", "coverage", "bias")},
            },
        ),
        claim(
            "similarity follows the sparse features and not the noise",
            f"Relative to the similarity of x with itself, it is {end.shared_z:.2f} for two x that share z and "
            f"{end.shared_noise:.2f} for two x that share xi ({setting}).",
            f"Above {FAR_FROM_ONE} for shared z and below {1 - NEAR_ONE:.1f} for shared xi.",
            end.shared_z > FAR_FROM_ONE and end.shared_noise < 1 - NEAR_ONE,
            _similar(masked),
        ),
        claim(
            "a linear probe for y = <w*, z> does better than any linear map of x",
            probed,
            "Both are higher on f than on x and on M'x.",
            head.regression > max(raw.regression, latents.regression) and head.sign > max(raw.sign, latents.sign),
            probes,
        ),
        claim(
            "a linear probe recovers y = <w*, z> and its sign, with vanishing error",
            probed,
            f"R^2 above {NEAR_ONE} and more than {100 * NEAR_ONE:.0f} % of the signs on f.",
            min(head.regression, head.sign) > NEAR_ONE,
            probes,
        ),
    ]


def without_masks(data: SparseCoding, learner: Learner, runs: Mapping[Kind, Run]) -> list[Claim]:
    """Return the claims about independent masks and about no augmentation, from one run for each kind."""
    scores = {WORDS[kind]: run.probe for kind, run in runs.items()}
    probes = _probes({**scores, "x": probe(None, data), "M'x": probe_latents(data)})
    return [claim for kind in ("none", "independent") for claim in _without(kind, data, learner, runs, probes)]


def _without(
    kind: Kind, data: SparseCoding, learner: Learner, runs: Mapping[Kind, Run], probes: Mapping[str, np.ndarray]
) -> list[Claim]:
    """Return the claims about one kind of views that are not decoupled. probes: the figure of all probes' scores."""
    found, masked = runs[kind], runs["complementary"]
    end, head = found.end, found.probe
    in_span = expected_in_span(data, Augmentation(kind), learner)
    # R^2 of the best linear map of x: the share of z's variance in the variance of M'x.
    ceiling = data.active / (data.active + data.variance)
    reason = f"when the threshold sets in, a linear network is expected to have {in_span:.2f} of its energy in span(M)"
    tested = f"tested where noise dominates: the linear network's share is below {FAR_FROM_ONE}"

    def claim(name: str, measured: str, expected: str, holds: bool, figure: Mapping[str, np.ndarray]) -> Claim:
        judged = verdict(holds) if in_span < FAR_FROM_ONE else "not testable at this size"
        measured = f"{measured}; {reason} ({_setting(data, learner)})."
        return Claim(f"With {WORDS[kind]} {name}", PAPER, measured, f"{expected}; {tested}.", judged, figure)

    return [
        claim(
            "the sparse features are not learned",
            f"Coverage is {end.coverage:.2f} and the share of energy in span(M) is {end.in_span:.2f}; with "
            f"complementary masks they are {masked.end.coverage:.2f} and {masked.end.in_span:.2f}",
            f"Both below {FAR_FROM_ONE}",
            max(end.coverage, end.in_span) < FAR_FROM_ONE,
            _curves(runs, "in_span"),
        ),
        claim(
            "similarity follows the noise",
            f"Relative to the similarity of x with itself, it is {end.shared_z:.2f} for two x that share z and "
            f"{end.shared_noise:.2f} for two x that share xi",
            "It is higher for shared xi",
            end.shared_noise > end.shared_z,
            _similar(found),
        ),
        claim(
            "a linear probe does no better than guessing the mean",
            f"R^2 is {head.regression:.2f}, and {percent(head.sign)} of the signs are right; a linear map of x reaches "
            f"R^2 {ceiling:.2f}",
            f"R^2 below {1 - NEAR_ONE:.1f}",
            head.regression < 1 - NEAR_ONE,
            probes,
        ),
    ]


def _setting(data: SparseCoding, learner: Learner) -> str:
    """Return the sizes and settings in words."""
    return (
        f"d = {data.d}, d1 = {data.d1:,}, P(z_j != 0) {data.active:.3g}, noise variance {data.variance:.2g}, "
        f"{learner.m} neurons, {learner.bias} bias, {learner.steps:,} steps of {learner.batch} pairs"
    )


def _curves(runs: Mapping[Kind, Run], name: str) -> dict[str, np.ndarray]:
    """Return one measure of every run, over the steps at which all runs were measured."""
    steps = reduce(np.intersect1d, [run.steps for run in runs.values()])
    return {"over steps": steps.astype(float)} | {
        WORDS[kind]: run.curve(name)[np.isin(run.steps, steps)] for kind, run in runs.items()
    }


def _similar(run: Run) -> dict[str, np.ndarray]:
    """Return the similarities of x that share z and of x that share xi, over the steps."""
    return {
        "over steps": run.steps.astype(float),
        "sharing z": run.curve("shared_z"),
        "sharing xi": run.curve("shared_noise"),
    }


def _probes(probes: Mapping[str, Probe]) -> dict[str, np.ndarray]:
    """Return series of two points each: R^2, and the accuracy of the sign."""
    return {name: np.array([found.regression, found.sign]) for name, found in probes.items()}
