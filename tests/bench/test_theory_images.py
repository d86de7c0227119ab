"""The verdicts of what colour distortion does follow the numbers."""

import copy

import pytest

from bench.recipe import load
from bench.theory.images import STRONG, WEAK, claims, run

RESULT = {
    "images": 60,
    "representation": {"silhouette": 0.1, "knn": 50.0},
    "tsne": {"silhouette": 0.2, "knn": 51.0},
    "layers": [{"positive": 0.5, "firing_rate": 1.0, "sparseness": 0.7}] * 5,
}


def changed(step):
    other = copy.deepcopy(RESULT)
    for where in ("representation", "tsne"):
        other[where] = {name: value + step for name, value in RESULT[where].items()}
    other["layers"] = [{"positive": 0.5 - step, "firing_rate": 1.0, "sparseness": 0.7}] * 5
    return other


@pytest.mark.parametrize(("step", "expected"), [(0.01, "holds"), (-0.01, "fails"), (0.0, "fails")])
def test_both_hold_only_where_all_numbers_say_so(step, expected):
    found = claims(changed(step), RESULT)
    assert [claim.verdict for claim in found] == [expected] * 2
    assert "conv 5 " in found[1].measured and len(found[1].figure["x"]) == 5


def test_one_layer_or_score_that_does_not_is_enough_to_fail():
    strong = changed(0.01)
    strong["layers"] = [*strong["layers"][:4], {"positive": 0.6, "firing_rate": 1.0, "sparseness": 0.7}]
    strong["tsne"]["knn"] = 40.0
    assert [claim.verdict for claim in claims(strong, RESULT)] == ["fails"] * 2
    strong = changed(0.01)
    strong["layers"] = [{"positive": 0.6, "firing_rate": 1.0, "sparseness": 0.7}, *strong["layers"][1:]]
    assert claims(strong, RESULT)[1].verdict == "holds", "nothing is claimed of conv 1"


def test_the_two_recipes_differ_in_their_views_alone():
    strong, weak = load(STRONG).settings(), load(WEAK).settings()
    assert {key for key in strong if strong[key] != weak[key]} == {"name", "views"}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_experiment_runs(cifar_root):
    apart, sparse = run()
    assert "conv 2 " in sparse.measured and "silhouette of tsne" in apart.measured
    assert {len(series) for series in apart.figure.values()} == {2}
