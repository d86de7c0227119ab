"""The verdicts about color distortion and labels follow from the numbers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from twoview.bench.config.recipe import load
from twoview.bench.evaluation.representations import Representation
from twoview.bench.theory.images import STRONG, SUPERVISED, WEAK, Encoders, claims, linear_cka, run
from twoview.methods.probes.firing import Layer
from twoview.methods.probes.separation import Separation
from twoview.reports import papers

COUNT = 40


def represented(step=0.0, layers=None):
    """An encoder whose classes are `step` further apart, and which fires less by the same amount."""
    if layers is None:
        layers = [maps(number, 0.5 - step) for number in range(5)]
    return Representation(
        SimpleNamespace(name="encoder", hash="0"), "cifar10", "test", {}, ("cat", "dog"),
        Separation(0.1 + step, 50 + step), Separation(0.2 + step, 51 + step),
        np.arange(2.0 * COUNT, dtype=np.float32).reshape(COUNT, 2), np.arange(COUNT) % 2, layers, [], [],
    )  # fmt: skip


def maps(seed, positive=0.5):
    mean = torch.rand(COUNT, 6, generator=torch.Generator().manual_seed(seed))
    return Layer(mean, torch.full_like(mean, positive))


def verdicts(strong, weak, supervised, again=None):
    """The second supervised encoder is the first, unless another is given."""
    return [claim.verdict for claim in claims([Encoders(strong, weak, supervised, again or supervised)])]


@pytest.mark.parametrize(("step", "expected"), [(0.01, "holds"), (-0.01, "fails"), (0.0, "fails")])
def test_both_claims_hold_only_if_all_numbers_agree(step, expected):
    assert verdicts(represented(step), represented(), represented())[2:] == [expected] * 2


def test_one_contrary_layer_or_score_fails_a_claim():
    strong = represented(0.01, [*represented(0.01).layers[:4], maps(4, 0.6)])
    strong = replace(strong, of_picture=Separation(0.3, 40.0))
    assert verdicts(strong, represented(), represented())[2:] == ["fails"] * 2
    strong = represented(0.01, [maps(0, 0.6), *represented(0.01).layers[1:]])
    assert verdicts(strong, represented(), represented())[3] == "holds", "nothing is claimed about conv 1"


def test_the_encoders_differ_if_their_higher_layers_do():
    same, last = represented(), maps(99)
    supervised = represented(layers=[*same.layers[:4], last])
    assert verdicts(same, same, supervised)[0] == "holds"
    assert verdicts(same, same, same)[0] == "fails"
    weak = represented(layers=[*same.layers[:4], Layer(0.9 * last.mean + 0.1 * maps(98).mean, last.positive)])
    assert verdicts(same, weak, represented(layers=[maps(97), *same.layers[1:]]))[0] == "fails", "only the lowest does"
    halfway = represented(layers=[*same.layers[:4], Layer(same.layers[4].mean + last.mean, last.positive)])
    assert verdicts(same, weak, halfway)[0] == "fails", "two contrastive encoders differ more"
    again = represented(layers=[*same.layers[:4], Layer(maps(96).mean, last.positive)])
    assert verdicts(same, same, halfway)[0] == "holds"
    assert verdicts(same, same, halfway, again)[0] == "fails", "two supervised encoders differ more"


def test_a_verdict_needs_every_seed_and_each_seed_has_an_effect():
    """Above 0 if the claim is right: for the classes' silhouette in t-SNE, and for the share of values above 0."""
    more, less, same = (Encoders(represented(step), *[represented()] * 3) for step in (0.01, -0.02, 0.0))
    for seeds, word in (((more, more), "holds"), ((more, less), "fails"), ((more, same), "fails")):
        _, dense, apart, sparse = claims(seeds)
        assert (apart.verdict, sparse.verdict) == (word, word)
        steps = [{id(more): 0.01, id(less): -0.02, id(same): 0.0}[id(one)] for one in seeds]
        for claim in (dense, apart, sparse):
            assert list(claim.effects) == pytest.approx(steps, abs=1e-6)
            assert "the mean of 2 seeds" in claim.measured
    (differ, *_) = claims(
        [
            Encoders(
                represented(),
                represented(),
                *[represented(layers=[maps(n) for n in range(i, i + 5)]) for i in (40, 60)],
            )
        ]
    )
    assert len(differ.effects) == 1 and abs(differ.effects[0]) < 1


def test_the_papers_table_names_these_claims():
    names = {claim.name for claim in claims([Encoders(*[represented()] * 4)])}
    (wen,) = (paper for paper in papers.load() if paper.key == "wen2021")
    assert {check.theory for claim in wen.claims for check in claim.reduced} == names


def test_a_claim_that_cannot_be_tested_is_not_decided():
    assert verdicts(represented(0.1), represented(), represented())[1] == "not testable at this size"


def test_plots_show_a_subset_of_the_points():
    apart = claims([Encoders(*[represented()] * 4)])[2]
    assert len(apart.scatter) == 3
    for points in apart.scatter.values():
        assert len(points.x) == len(points.y) == len(points.label) <= 300 and set(points.label) == {0, 1}


def test_linear_cka_matches_its_definition_by_kernels():
    """The definition uses centered Gram matrices; rotations and scales change nothing."""
    x, y = np.random.default_rng(0).normal(size=(2, 30, 5))
    center = np.eye(30) - 1 / 30
    k, n = (center @ features @ features.T @ center for features in (x, y))
    assert linear_cka(x, y) == pytest.approx(np.trace(k @ n) / np.sqrt(np.trace(k @ k) * np.trace(n @ n)))
    rotation = np.linalg.qr(y[:5])[0]
    assert linear_cka(x, 3 * x @ rotation + 1) == pytest.approx(1)


def test_the_contrastive_recipes_differ_only_in_their_views():
    strong, weak = load(STRONG).settings(), load(WEAK).settings()
    assert {key for key in strong if strong[key] != weak[key]} == {"name", "views"}
    assert load(SUPERVISED).settings()["backbone"] == strong["backbone"]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_experiment_runs(cifar_root):
    differ, _, apart, sparse = run()
    assert "conv 2 " in sparse.measured and "silhouette of its t-SNE" in apart.measured
    assert len(differ.figure["over layers"]) == 5 and len(apart.scatter) == 3
