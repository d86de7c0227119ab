"""Wen and Li's theorems as measurements: what a contrastive layer learns with and without complementary masks.

The theorems are asymptotic, in d. At d = 64 a claim about the network without augmentation can be tested only where
noise dominates when the threshold sets in: sparse directions grow a little faster than dense ones in every linear
network, and in the end outgrow them. `expected_in_span` says where that has happened; such a claim then is "not
testable at this size". Limits and rules of the verdicts stand here as constants, above the runs that they judge.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from bench.theory.augmentation import Augmentation, Kind
from bench.theory.claims import Claim, verdict
from bench.theory.features import Measures, Probe, measure, probe, probe_latents
from bench.theory.learner import Learner, train
from loaders.sparse_coding import SparseCoding

NEAR_ONE = 0.9  # what is claimed to be near 1 is above it,
FAR_FROM_ONE = 0.5  # and what is claimed not to be is below this
PAPER = "Wen and Li (ICML 2021), recalled, not read"
KINDS: tuple[Kind, ...] = ("complementary", "none", "independent")

DATA = SparseCoding(d=64, d1=1024, sparsity=4 / 64)
LEARNER = Learner(m=256, batch=256, steps=1400, rate=0.5, decay=0.005)
SWEPT_DATA = SparseCoding(d=32, d1=512, sparsity=4 / 32)  # a few seconds a training
SWEPT_LEARNER = Learner(m=96, batch=256, steps=500, rate=0.5, decay=0.01, tau=12.0, bias="fixed")


class Moments(NamedTuple):
    """What the cross moment E[x++ x+'] of two views is along the sparse directions M_j and along those orthogonal to
    them, a mean each: the rates at which a linear network with small weights grows there.
    """

    sparse: float
    dense: float


@dataclass(frozen=True)
class Run:
    """A training: the measures at `steps`, the last of them at its end, the loss there, and the probe on f at the end.

    steps: int64 (k,). losses: float64 (k,), the first nan.
    """

    steps: np.ndarray
    losses: np.ndarray
    measures: list[Measures]
    probe: Probe

    @property
    def end(self) -> Measures:
        return self.measures[-1]

    def curve(self, name: str) -> np.ndarray:
        """One of the measures over the steps, float64 (k,)."""
        return np.array([getattr(measures, name) for measures in self.measures])


def moments(data: SparseCoding, augmentation: Augmentation) -> Moments:
    """In expectation, without a sample: the traces of `Augmentation.cross_moment` inside span(M) and outside."""
    squares = data.dictionary.astype(np.float64) ** 2
    diagonal = data.active * squares.sum(axis=1) + data.variance
    inside = data.d * (data.active + data.variance) + (augmentation.overlap - 1) * float((squares.T @ diagonal).sum())
    outside = augmentation.overlap * float(diagonal.sum()) - inside
    return Moments(inside / data.d, outside / max(data.d1 - data.d, 1))


def expected_in_span(data: SparseCoding, augmentation: Augmentation, learner: Learner) -> float:
    """The share of |w|^2 in span(M) when a linear network with small weights has grown to `learner.grown` times its
    first norm, where the threshold sets in; as at the start where it does not grow.
    """
    rates = np.array(moments(data, augmentation)) - learner.decay
    shares = np.array([data.d, data.d1 - data.d]) / data.d1
    if rates.max() <= 0:
        return float(shares[0])

    def energies(time: float) -> np.ndarray:
        grown: np.ndarray = shares * np.exp(2 * rates * time)
        return grown

    longest = (math.log(learner.grown) - math.log(shares[rates.argmax()])) / rates.max()
    at = energies(brentq(lambda time: energies(time).sum() - learner.grown**2, 0, longest))
    return float(at[0] / at.sum())


def trained(data: SparseCoding, augmentation: Augmentation, learner: Learner, points: int = 20) -> Run:
    """Trains, and measures at the start and `points` times more; the probe is fitted at the end."""
    every = max(learner.steps // points, 1)
    steps, losses, measures = [], [], []
    for step, loss, layer in train(data, augmentation, learner):
        if step % every == 0 or step == learner.steps:
            steps.append(step)
            losses.append(loss)
            measures.append(measure(layer, data))
    return Run(np.array(steps), np.array(losses), measures, probe(layer, data))


def run(data: SparseCoding = DATA, learner: Learner = LEARNER) -> list[Claim]:
    """The claims, each measured; three trainings."""
    runs = {kind: trained(data, Augmentation(kind), learner) for kind in KINDS}
    return [*decoupling(), *learning(data, learner, runs)]


def decoupling() -> list[Claim]:
    """The claim about second moments, in expectation and at the paper's own rates: it needs no training."""
    sizes = [SparseCoding(d, 16 * d) for d in (16, 32, 64, 128)]
    found = {kind: [moments(data, Augmentation(kind)) for data in sizes] for kind in KINDS}
    at = {kind: pairs[2] for kind, pairs in found.items()}
    masked = all(pair.sparse > 0 >= pair.dense for pair in found["complementary"])
    unmasked = all(pair.dense > 0 for kind in ("none", "independent") for pair in found[kind])
    figure = {"x": np.array([data.d for data in sizes], float)}
    for kind, pairs in found.items():
        figure[f"{kind}, sparse"] = np.array([pair.sparse for pair in pairs])
        figure[f"{kind}, dense"] = np.array([pair.dense for pair in pairs])
    return [
        Claim(
            name="Complementary masks alone decouple sparse from dense features, before any training",
            source=f"{PAPER}; the moments follow from the model",
            measured="cross moment of the views at d = 64, d1 = 1024, along M_j and along dense directions: "
            + "; ".join(f"{kind} {pair.sparse:.4f} and {pair.dense:.4f}" for kind, pair in at.items()),
            expected="complementary: positive and not; none, independent: both positive; at d = 16, 32, 64, 128",
            verdict=verdict(masked and unmasked),
            figure=figure,
        )
    ]


def learning(data: SparseCoding, learner: Learner, runs: Mapping[Kind, Run]) -> list[Claim]:
    """The claims about what is learned, of a run for every kind of augmentation."""
    steps = {"x": runs["complementary"].steps.astype(float)}
    setting = (
        f"d = {data.d}, d1 = {data.d1}, P(z_j != 0) = {data.active:.4f}, noise variance {data.variance:.4f}, "
        f"m = {learner.m}, bias {learner.bias}, {learner.steps} steps of {learner.batch}"
    )
    masked = runs["complementary"]
    linear, raw = probe_latents(data), probe(None, data)

    probes = _probes({**{kind: found.probe for kind, found in runs.items()}, "x": raw, "M'x": linear})
    probed = (
        f"R^2 {masked.probe.regression:.3f}, accuracy of the sign {masked.probe.sign:.3f}; the same head on x "
        f"{raw.regression:.3f} and {raw.sign:.3f}, on M'x {linear.regression:.3f} and {linear.sign:.3f}; {setting}"
    )

    def figure(name: str) -> dict[str, np.ndarray]:
        return steps | {kind: found.curve(name) for kind, found in runs.items()}

    def high(name: str, value: float, measured: str, curves: Mapping[str, np.ndarray]) -> Claim:
        return Claim(name, PAPER, f"{measured}; {setting}", f"above {NEAR_ONE}", verdict(value > NEAR_ONE), curves)

    claims = [
        high(
            "With complementary masks every sparse feature is learned by a neuron",
            masked.end.coverage,
            f"coverage {masked.end.coverage:.3f}, best cosine of the median feature {masked.end.best_cosine:.3f}, "
            f"{masked.end.neurons_a_feature:.1f} neurons a feature",
            figure("coverage"),
        ),
        high(
            "With complementary masks what lies outside span(M) is negligible",
            masked.end.in_span,
            f"share of the weights' energy in span(M) {masked.end.in_span:.3f}",
            figure("in_span"),
        ),
        Claim(
            name="With complementary masks a neuron is made of O(1) features",
            source=PAPER,
            measured=f"participation ratio of the median neuron {masked.end.participation:.1f}, at the start "
            f"{masked.measures[0].participation:.1f}; {setting}",
            expected="below 2",
            verdict=verdict(masked.end.participation < 2),
            figure=figure("participation"),
        ),
        Claim(
            name="With complementary masks neurons fire sparsely, and on their feature's support",
            source=PAPER,
            measured=f"{masked.end.firing:.3f} of the neurons fire; recall of the support {masked.end.recall:.3f}, "
            f"false share of the firing {masked.end.false_support:.3f}; {setting}",
            expected=f"recall above {NEAR_ONE} and false share below {1 - NEAR_ONE:.1f}",
            verdict=verdict(masked.end.recall > NEAR_ONE and masked.end.false_support < 1 - NEAR_ONE),
            figure=figure("firing"),
        ),
        Claim(
            name="With complementary masks similarity follows the sparse features and not the noise",
            source=PAPER,
            measured=f"Sim of two x over that of x with itself: {masked.end.shared_z:.3f} where they share z, "
            f"{masked.end.shared_noise:.3f} where they share xi; {setting}",
            expected=f"above {FAR_FROM_ONE} and below {1 - NEAR_ONE:.1f}",
            verdict=verdict(masked.end.shared_z > FAR_FROM_ONE and masked.end.shared_noise < 1 - NEAR_ONE),
            figure=steps | {name: masked.curve(name) for name in ("shared_z", "shared_noise")},
        ),
        Claim(
            name="With complementary masks a linear probe for y = <w*, z> does better than any linear map of x",
            source=PAPER,
            measured=probed,
            expected="both above those on x and on M'x",
            verdict=verdict(
                masked.probe.regression > max(raw.regression, linear.regression)
                and masked.probe.sign > max(raw.sign, linear.sign)
            ),
            figure=probes,
        ),
        Claim(
            name="With complementary masks a linear probe recovers y = <w*, z> and its sign, with vanishing error",
            source=PAPER,
            measured=probed,
            expected=f"both above {NEAR_ONE}",
            verdict=verdict(min(masked.probe.regression, masked.probe.sign) > NEAR_ONE),
            figure=probes,
        ),
    ]
    without: dict[Kind, str] = {"none": "Without augmentation", "independent": "With independent masks"}
    for kind, words in without.items():
        found, in_span = runs[kind], expected_in_span(data, Augmentation(kind), learner)
        testable = in_span < FAR_FROM_ONE
        reason = f"a linear network has {in_span:.2f} of its energy in span(M) when the threshold sets in"
        ceiling = data.active / (data.active + data.variance)
        claims += [
            Claim(
                name=f"{words} the sparse features are not learned",
                source=PAPER,
                measured=f"coverage {found.end.coverage:.3f}, energy in span(M) {found.end.in_span:.3f}; {reason}; "
                + setting,
                expected=f"both below {FAR_FROM_ONE}; testable where that energy is, too",
                verdict=verdict(max(found.end.coverage, found.end.in_span) < FAR_FROM_ONE)
                if testable
                else "not testable at this size",
                figure=figure("coverage"),
            ),
            Claim(
                name=f"{words} similarity follows the noise",
                source=PAPER,
                measured=f"Sim of two x over that of x with itself: {found.end.shared_z:.3f} where they share z, "
                f"{found.end.shared_noise:.3f} where they share xi; {reason}; {setting}",
                expected="more where they share xi; testable where that energy is below 0.5",
                verdict=verdict(found.end.shared_noise > found.end.shared_z)
                if testable
                else "not testable at this size",
                figure=steps | {name: found.curve(name) for name in ("shared_z", "shared_noise")},
            ),
            Claim(
                name=f"{words} a linear probe does no better than guessing the mean",
                source=PAPER,
                measured=f"R^2 {found.probe.regression:.3f}, accuracy of the sign {found.probe.sign:.3f}; a linear map "
                f"of x can reach R^2 {ceiling:.3f}; {setting}",
                expected=f"R^2 below {1 - NEAR_ONE:.1f}; testable where a linear map of x cannot do better either",
                verdict=verdict(found.probe.regression < 1 - NEAR_ONE)
                if ceiling < 1 - NEAR_ONE
                else "not testable at this size",
                figure=_probes({kind: found.probe, "x": raw, "M'x": linear}),
            ),
        ]
    return claims


def _probes(probes: Mapping[str, Probe]) -> dict[str, np.ndarray]:
    """Two points a series: R^2, and the accuracy of the sign."""
    return {name: np.array([found.regression, found.sign]) for name, found in probes.items()}


Parameter = Literal["d", "sparsity", "noise", "keep"]


def sweep(
    grid: Mapping[Parameter, Sequence[float]],
    kinds: Sequence[Kind] = ("complementary",),
    data: SparseCoding = SWEPT_DATA,
    learner: Learner = SWEPT_LEARNER,
) -> pd.DataFrame:
    """A training at every point of a grid: a row each, with the point, the measures at its end, and its probe.

    grid: values of d (d1 and m keep their ratio to it, and the number of active features stays), of P(z_j != 0), of
    the noise level, or of the masks' keep probability. A phase plot is a pivot of two of them.
    """
    rows: list[dict[str, Any]] = []
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        d = int(point.get("d", data.d))
        at = replace(
            data,
            d=d,
            d1=data.d1 * d // data.d,
            sparsity=point.get("sparsity", min(data.active * data.d / d, 1.0)),
            noise=point.get("noise", data.noise),
        )
        sized = replace(learner, m=max(learner.m * d // data.d, 1))
        for kind in kinds:
            found = trained(at, Augmentation(kind, point.get("keep", 0.5)), sized, points=1)
            ends = {"regression": found.probe.regression, "sign": found.probe.sign, "loss": float(found.losses[-1])}
            rows.append({"kind": kind, "d": d, "sparsity": at.active, "variance": at.variance}
                        | {"keep": point.get("keep", 0.5)} | asdict(found.end) | ends)  # fmt: skip
    return pd.DataFrame(rows)
