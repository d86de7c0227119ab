"""What papers claim: verdicts come only from intervals over the claim's own recipes, for each machine separately."""

import math
from datetime import UTC, datetime

import pytest

from twoview.bench.evidence import Theory
from twoview.reports import papers
from twoview.reports.cells import fields
from twoview.reports.claims_table import COLUMNS, claims_table, tally
from twoview.reports.papers import Check, Claim, Paper
from twoview.reports.significance import resolvable

CLAIM = {"paper": "p", "claim": "c", "statistic": "s", "metric": "linear_top1", "provenance": "paper"}
BEATS = Claim(**CLAIM, contrast={"a": 1.0, "b": -1.0}, value=1.5, note="n")


def paper(*claims):
    return Paper(key="p", title="t", address="https://a", rows=(), claims=claims)


def runs(make, gains, overrides=(), **fields):
    """One run of b and of a for each gain, each with its own seed: b has 50 %, a has the gain on top."""
    return [
        run.model_copy(update={"recipe": run.recipe | {"name": name}, "overrides": dict(overrides)})
        for seed, gain in enumerate(gains)
        for name, more in (("a", gain), ("b", 0.0))
        for run in [make.run(linear=50.0 + more, seed=seed, **fields)]
    ]


def only(claim, runs, theories=()):
    (row,) = claims_table([paper(claim)], runs, theories).to_dict("records")
    return row


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ([1.0, 2.0, 3.0, 1.5], "holds"),
        ([-1.0, -2.0, -3.0, -1.5], "fails"),
        ([1.0, -2.0, 3.0, -1.5], "not resolved"),
        ([2.0, 2.1], "not resolved"),
        ([2.0, 2.0, 2.0], "not resolved"),
    ],
)
def test_the_interval_decides_the_verdict(make, gains, word):
    row = only(BEATS, runs(make, gains))
    assert (row["verdict"], row["of"], row["published_effect"]) == (word, len(gains), 1.5)
    assert row["effect"] == pytest.approx(sum(gains) / len(gains))
    either = only(BEATS.model_copy(update={"two_sided": True}), runs(make, gains))["verdict"]
    assert either == word.replace("fails", "holds")


def test_a_claimed_negative_correlation_is_judged(make):
    claim = Claim(**CLAIM, correlation=("a",), against="bias")

    def of(accuracies):
        trained = [
            make.training.model_copy(update={"logged": {"bias": [float(number)]}}) for number in range(len(accuracies))
        ]
        return [
            run.model_copy(update={"recipe": run.recipe | {"name": "a"}, "overrides": {}})
            for seed, linear in enumerate(accuracies)
            for run in [make.run(linear=linear, seed=seed, training=trained[seed])]
        ]

    falling = [80.0, 81.0, 70.0, 60.0, 55.0, 54.0, 53.0, 40.0]
    assert only(claim, of(falling))["verdict"] == "holds"
    assert only(claim, of(falling[::-1]))["verdict"] == "fails"
    assert only(claim, of(falling[:4]))["verdict"] == only(claim, of([4.0, 3.0, 2.0, 1.0]))["verdict"] == "not resolved"


def test_only_the_papers_own_recipe_counts(make):
    for others in ([], runs(make, [1.0, 2.0, 3.0], overrides={"epochs": 1}), [make.run()]):
        row = only(BEATS, others)
        assert row["verdict"] == "not measured" and math.isnan(row["effect"]) and row["note"] == "n"


def test_machines_are_judged_separately(make):
    both = [*runs(make, [2.0, 2.5, 3.0]), *runs(make, [-2.0, -2.5, -3.0], cpu="Zen 5")]
    table = claims_table([paper(BEATS)], both, [])
    assert table.columns.tolist() == list(fields(COLUMNS)) and table["verdict"].tolist() == ["holds", "fails"]
    assert table["machine"].is_unique


def test_every_claim_has_a_row():
    table = claims_table(papers.load(), [], [])
    assert (table["verdict"] == "not measured").all() and (table["statistic"] != "").all()
    assert set(table["source"]) == {"lee2025", "tan2024", "assran2023", "wen2021"}


def test_a_smaller_recipe_is_judged_at_reduced_scale(make):
    """Its values may differ only in what its own search ranges cover."""
    small = Check(statistic="small", contrast={"a": 1.0, "b": -1.0}, metric="linear_top1", dataset="cifar10")
    claim = Claim(**CLAIM, contrast={"c": 1.0, "d": -1.0}, dataset="imagenet", reduced=(small,))
    gains = [2.0, 2.5, 3.0]
    row = only(claim, runs(make, gains))
    assert (row["verdict"], row["scale"], row["statistic"]) == ("holds at reduced scale", "reduced", "small")
    assert (row["dataset"], row["of"], row["resolvable"]) == ("cifar10", 3, pytest.approx(resolvable(gains)))
    tuned = [
        run.model_copy(update={"recipe": run.recipe | {"search": {"ranges": {"optim.lr": [0.1, 1.0, "log"]}}}})
        for run in runs(make, gains, overrides={"optim.lr": 0.3})
    ]
    assert only(claim, tuned)["verdict"] == "holds at reduced scale"
    assert only(claim, runs(make, gains, overrides={"optim.lr": 0.3}))["verdict"] == "not measured"


def test_the_tally_counts_each_claim_once(make):
    """By the paper's own recipes if they were run."""
    small = Check(statistic="small", contrast={"a": -1.0, "b": 1.0}, metric="linear_top1")
    claims = [
        BEATS.model_copy(update={"claim": "both", "reduced": (small,)}),
        Claim(**CLAIM | {"claim": "small"}, contrast={"c": 1.0, "d": -1.0}, reduced=(small,)),
        Claim(**CLAIM | {"claim": "none"}, contrast={"c": 1.0, "d": -1.0}),
    ]
    table = claims_table([paper(*claims)], runs(make, [2.0, 2.5, 3.0]), [])
    assert table["verdict"].tolist() == ["holds", "fails at reduced scale", "fails at reduced scale", "not measured"]
    assert tally(table) == (
        "Claims that hold: 1 of 3; that fail: 1; not resolved: 0; not measured: 1. Of these verdicts 1 come from "
        "the papers' own recipes, the others from smaller recipes."
    )


def test_a_theoretical_claim_is_judged_by_its_effects(make):
    small = Check(statistic="small", theory="features differ")
    claim = Claim(**CLAIM, reduced=(small,))

    def theory(effects, day=1, name="features differ"):
        said = {"name": name, "source": "s", "measured": "m", "expected": "e", "verdict": "holds", "effects": effects}
        created = datetime(2026, 3, day, tzinfo=UTC)
        return Theory(name="t", created=created, environment=make.run().environment, claims=[said], seconds=1.0)

    row = only(claim, [], [theory([-1.0, -1.1, -1.2], 1), theory([0.2, 0.3, 0.4], 2), theory([], 3)])
    assert (row["verdict"], row["of"], row["effect"]) == ("holds at reduced scale", 3, pytest.approx(0.3))
    assert only(claim, [], [theory([0.5])])["verdict"] == "not resolved at reduced scale", "one seed"
    assert only(claim, [], [theory([0.2, 0.3, 0.4], name="another")])["verdict"] == "not measured"
