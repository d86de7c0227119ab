"""A training run at every point of a grid, and verdicts that follow from the grid."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from twoview.bench.theory import sweeps
from twoview.bench.theory.augmentation import Augmentation
from twoview.bench.theory.learner import Learner
from twoview.bench.theory.parallel import side_by_side
from twoview.bench.theory.sweeps import decoupled, first_stage, learned_at, learned_in, phase, sweep
from twoview.loaders.sparse_coding import SparseCoding

SMALL = SparseCoding(8, 64, 0.2, 0.02)
QUICK = Learner(m=24, batch=128, steps=5, rate=0.5, tau=4.0, decay=0.005)


def test_a_sweep_has_one_row_per_point():
    rows = sweep({"d": [4, 8], "keep": [0.3, 0.5]}, data=SMALL, learner=QUICK)
    assert len(rows) == 4 and not rows[["d", "keep"]].duplicated().any()
    assert set(rows.sparsity) == {0.4, 0.2} and set(rows.noise) == {0.02} and set(rows.kind) == {"complementary"}
    assert {"coverage", "in_span", "loss"} <= set(rows.columns)
    with pytest.raises(ValueError, match=r"keep must be in \(0, 1\), got 1"):
        sweep({"keep": [1]}, data=SMALL, learner=QUICK)


def test_a_sweep_gives_every_point_its_values():
    def trial(data, augmentation, learner):
        return {"seen": augmentation.correlation, "variance": data.variance, "neurons": learner.m}

    rows = sweep({"correlation": [-0.5, 1.0], "noise": [0.1, 0.2]}, trial, "correlated", SMALL, QUICK)
    assert (rows.seen == rows.correlation).all() and (rows.variance == rows.noise).all() and set(rows.neurons) == {24}
    plot = phase(rows, "correlation", "noise", "seen")
    assert plot.value.tolist() == [[-0.5, 1.0]] * 2 and plot.x.tolist() == [-0.5, 1] and plot.y.tolist() == [0.1, 0.2]


def test_a_sweep_adapts_the_learner_to_each_point():
    """Steps double if features are active half as often, and tau grows as log(d)^2."""

    def trial(data, augmentation, learner):
        return {"steps": learner.steps, "tau": learner.tau, "m": learner.m, "d1": data.d1}

    rows = sweep({"sparsity": [0.1, 0.4]}, trial, data=SMALL, learner=QUICK)
    assert rows.steps.tolist() == [10, 5] and set(rows.tau) == {4.0}
    (larger,) = sweep({"d": [64]}, trial, data=SMALL, learner=QUICK).itertuples()
    assert (larger.d1, larger.m, larger.sparsity, larger.steps) == (512, 192, 0.025, 40)
    assert larger.tau == pytest.approx(4.0 * 2**2)


def test_the_first_stage_ends_once_the_weights_have_grown():
    """With a large batch the result matches the population gradient's."""
    learner = replace(QUICK, batch=2048, steps=300, rate=0.5, bias="none")
    for kind in ("complementary", "none"):
        found = first_stage(SMALL, Augmentation(kind), learner)
        assert found["in_span"] == pytest.approx(found["population"], abs=0.06)
    stopped = first_stage(SMALL, Augmentation(), replace(learner, steps=1))
    assert stopped["in_span"] < 0.3 < found["in_span"]


def test_one_point_that_is_not_learned_fails_the_claim():
    rows = pd.DataFrame({"noise": [0.1, 0.1, 0.4, 0.4], "sparsity": [0.1, 0.2] * 2, "coverage": 0.95, "in_span": 0.95})
    assert learned_at("name", "source", rows, "noise").verdict == "holds"
    rows.loc[2, "in_span"] = 0.7
    failed = learned_at("name", "source", rows, "noise")
    assert failed.verdict == "fails" and "3 of 4" in failed.measured and "0.95 and 0.70" in failed.measured
    assert learned_at("name", "source", rows, "noise", most=0.1).verdict == "holds", "nothing is claimed beyond it"
    assert failed.phase["coverage"].value.shape == (2, 2)


@pytest.mark.parametrize(("lowest", "expected"), [(0.91, "holds"), (0.9, "fails")])
def test_every_dimension_counts(lowest, expected):
    rows = pd.DataFrame({"d": [12, 24], "coverage": [1.0, lowest], "in_span": [0.95, 0.95]})
    assert learned_in(rows).verdict == expected


def stages(**in_span: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows for two noise variances; at the second one noise dominates."""
    masked = pd.DataFrame(
        [
            {"correlation": c, "noise": noise, "in_span": in_span[name] if noise == 0.3 else 0.9, "population": 0.4}
            for c, name in ((-1.0, "complementary"), (0.0, "independent"))
            for noise in (0.05, 0.3)
        ]
    )
    unmasked = pd.DataFrame({"noise": [0.05, 0.3], "in_span": [0.9, in_span["none"]], "population": [0.8, 0.3]})
    return masked, unmasked


@pytest.mark.parametrize(
    ("complementary", "independent", "none", "expected"),
    [(0.8, 0.3, 0.3, "holds"), (0.4, 0.3, 0.3, "fails"), (0.8, 0.6, 0.3, "fails"), (0.8, 0.3, 0.6, "fails")],
)
def test_the_first_stage_is_judged_where_noise_dominates(complementary, independent, none, expected):
    masked, unmasked = stages(complementary=complementary, independent=independent, none=none)
    assert decoupled(masked, unmasked).verdict == expected
    assert decoupled(masked, unmasked.assign(population=0.8)).verdict == "not testable at this size"


def test_the_grids_include_the_theorems_points():
    """The theorem's noise, complementary masks and independent masks are points of the grids."""
    assert sweeps.DATA.variance in sweeps.NOISES and {-1, 0, 1} <= set(sweeps.CORRELATIONS) and 0.5 in sweeps.KEEPS


def test_parallel_results_keep_their_order():
    assert side_by_side(lambda number: number**2, range(20)) == [number**2 for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda number: 1 / number, [1, 0])
    assert np.array_equal(*side_by_side(lambda _: SMALL.x(np.arange(50)), range(2)))
