"""Time to a target by hand, MLPerf's mean, Welch's p against its formula, and their columns in the summary."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import stdtr

from twoview.reports.leaderboard import leaderboard
from twoview.reports.over_seeds import summary
from twoview.reports.significance import TARGETS, course, interval, mlperf_time, resolvable, seconds_to, verdict, welch


def judged(make, accuracies, **fields):
    """A run of epochs of 8, 10 and 9 s, judged after each."""
    training = make.training.model_copy(update={"logged": {"online_knn_top1": accuracies}})
    return make.run(training=training, **{"probe": {"online_knn_epochs": 1}} | fields)


def test_a_course_has_the_seconds_of_the_epochs_that_were_judged(make):
    assert course(judged(make, [40.0, 50.0, 60.0])) == [(8.0, 40.0), (18.0, 50.0), (27.0, 60.0)]
    assert course(judged(make, [50.0], probe={"online_knn_epochs": 2})) == [(18.0, 50.0)]
    assert course(make.run(training=make.training)) == course(make.run()) == []


def test_the_seconds_to_a_target_are_found():
    curve = [(8.0, 40.0), (18.0, 55.0), (27.0, 50.0)]
    assert seconds_to(50.0, curve) == 18.0
    assert seconds_to(56.0, curve) == math.inf
    assert math.isnan(seconds_to(None, curve)) and math.isnan(seconds_to(50.0, []))


@pytest.mark.parametrize(
    ("seconds", "mean"),
    [
        ([5.0, 1.0, 2.0], 2.0),
        ([4.0, 100.0, 6.0, 1.0, 8.0], 6.0),
        ([4.0, math.inf, 6.0], 6.0),
        ([4.0, math.inf, math.inf], math.nan),
        ([4.0, 5.0], math.nan),
        ([4.0, 5.0, 6.0, math.nan], math.nan),
    ],
)
def test_mlperf_drops_the_fastest_and_the_slowest(seconds, mean):
    assert mlperf_time(seconds) == pytest.approx(mean, nan_ok=True)


def test_welchs_test_matches_its_formula():
    one, other = [80.0, 82.0, 81.5], [78.0, 79.0, 75.0, 77.0]
    means = [sum(side) / len(side) for side in (one, other)]
    errors = [
        sum((x - mean) ** 2 for x in side) / (len(side) - 1) / len(side)
        for side, mean in zip((one, other), means, strict=True)
    ]
    t = (means[0] - means[1]) / sum(errors) ** 0.5
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / 2 + errors[1] ** 2 / 3)
    assert welch(one, other) == pytest.approx(2 * stdtr(freedom, -abs(t)))
    assert math.isnan(welch([80.0], other)), "one seed has no spread"
    assert math.isnan(welch([80.0, math.inf], other))
    assert math.isnan(welch([1.0, 1.0], [2.0, 2.0]))


def test_the_summary_compares_with_the_best_of_its_own_machine(make):
    target = TARGETS["fashion-mnist"]
    runs = []
    for seed in range(3):
        runs.append(judged(make, [0.0, target, 90.0], knn=80.0 + seed, seed=seed, name=f"a{seed}"))
        late = [0.0, 1.0, target if seed else 2.0]
        runs.append(judged(make, late, knn=70.0 + seed, seed=seed, name=f"b{seed}", method="byol"))
        runs.append(judged(make, late, knn=60.0 + seed, seed=seed, name=f"c{seed}", method="byol", cpu="Zen 5"))
    table = leaderboard(runs)
    assert table.set_index("name")["seconds_to_target"][["a0", "b0", "b1"]].tolist() == [18.0, math.inf, 27.0]
    rows = summary(table).set_index(["method", "machine"])
    best, second, apart = (rows.iloc[number] for number in range(3))
    assert (best["seconds_to_target"], second["seconds_to_target"]) == (18.0, 27.0)
    assert math.isnan(best["knn_p"]) and math.isnan(apart["knn_p"])
    assert second["knn_p"] == pytest.approx(welch([70.0, 71.0, 72.0], [80.0, 81.0, 82.0]))
    assert math.isnan(second["time_p"]), "one seed never reached the target, so the time has no mean"


def test_the_interval_is_students():
    """By hand: 1, 2, 3 have mean 2 and standard deviation 1; t with 2 degrees of freedom at 97.5 % is 4.302653."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    # With one degree of freedom, t is the tangent of 0.475 pi.
    assert interval([0.0, 2.0]) == pytest.approx((1, 1 - math.tan(0.475 * math.pi), 1 + math.tan(0.475 * math.pi)))
    assert all(map(math.isnan, interval([])))


@pytest.mark.parametrize("same", [[5.0], [5.0, 5.0], [41.62 - 37.42, 30.82 - 26.62, 4.2]])
def test_equal_differences_have_no_interval(same):
    """The last three differ only by rounding errors."""
    mean, low, high = interval(same)
    assert mean == pytest.approx(same[0]) and math.isnan(low) and math.isnan(high)
    assert verdict(low, high, 3) == "not resolved"


def test_a_verdict_needs_three_differences_and_an_interval_on_one_side():
    assert [verdict(*ends, 3) for ends in ((0.1, 2.0), (-2.0, -0.1), (-0.1, 2.0))] == [
        "agrees", "contradicts", "not resolved",
    ]  # fmt: skip
    assert verdict(0.1, 2.0, 2) == "not resolved"


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_the_resolvable_effect_is_resolved_in_80_percent_of_repetitions(count):
    """For normal differences with the spread of the given ones."""
    rng = np.random.default_rng(count)
    given = rng.normal(1.0, 3.0, count).tolist()
    drawn = rng.normal(resolvable(given), np.std(given, ddof=1), (100_000, count))
    reach = stats.t.ppf(0.975, count - 1) * drawn.std(1, ddof=1) / math.sqrt(count)
    assert np.mean(drawn.mean(1) > reach) == pytest.approx(0.8, abs=0.006)  # four and a half standard errors


def test_without_a_spread_nothing_is_resolvable():
    assert math.isnan(resolvable([1.0])) and math.isnan(resolvable([2.0, 2.0, 2.0])) and math.isnan(resolvable([]))
