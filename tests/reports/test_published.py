"""A paper's numbers are shown with the runs of its recipe, and with no others."""

import pytest

from twoview.reports.leaderboard import leaderboard
from twoview.reports.over_seeds import summary
from twoview.reports.papers import ABSENT, Paper, Row, load
from twoview.reports.published import beside_papers

ROW = Row(
    paper="p", table="t", row="r", metric="linear_top1", value=80.0, spread=1.5, provenance="paper", recipe="quick"
)


def compared(run, **changes):
    paper = Paper(key="p", title="P", address="a", rows=[ROW.model_copy(update=changes)], claims=[])
    row = beside_papers(leaderboard([run]), [paper]).iloc[0]
    return row["published"], row["within_spread"]


def as_in_the_file(run, **overrides):
    return run.model_copy(update={"overrides": overrides})


def test_a_run_is_within_the_published_spread_or_not(make):
    assert compared(as_in_the_file(make.run(linear=81.5))) == ("linear 80 ± 1.5", "linear yes")
    assert compared(as_in_the_file(make.run(linear=81.6), seed=3, precision="fp32")) == ("linear 80 ± 1.5", "linear no")
    assert compared(as_in_the_file(make.run(linear=81.25)), spread=None) == (
        "linear 80",
        "linear +1.25, no spread published",
    )


def test_another_recipe_or_metric_is_not_compared(make):
    assert compared(make.run()) == ("linear 80 ± 1.5", "not the paper's recipe: not recorded")
    assert compared(as_in_the_file(make.run(), epochs=3))[1] == "not the paper's recipe: epochs"
    assert compared(as_in_the_file(make.run()), metric="online_top1") == ("online top-1 80 ± 1.5", "")
    assert compared(as_in_the_file(make.run()), recipe="another") == (ABSENT, "")
    assert compared(as_in_the_file(make.run()), value=None, spread=None) == (ABSENT, "")


def test_a_knn_accuracy_is_compared_with_ours_by_the_same_rule(make):
    rule = "k = 10, cosine, unweighted"
    paper = Row(
        paper="p", table="t", row="r", metric="knn10_top1", knn=rule, value=80, provenance="code", recipe="quick"
    )
    run = as_in_the_file(make.run(knn=70.0))
    probed = run.accuracy.model_copy(update={"probes": {"knn-10": make.probed(81.0)}})
    for ours, said in (
        (run, "not measured"),
        (run.model_copy(update={"accuracy": probed}), "+1.00, no spread published"),
    ):
        papers = [Paper(key="p", title="P", address="a", rows=[paper], claims=[])]
        row = beside_papers(leaderboard([ours]), papers).iloc[0]
        assert (row["published_knn"], row["within_spread"]) == (rule, f"kNN {said}")


def test_the_summary_compares_the_mean(make):
    runs = [as_in_the_file(make.run(linear=80.0 + 2 * seed, seed=seed), seed=seed) for seed in range(2)]
    paper = Paper(key="p", title="P", address="a", rows=[ROW], claims=[])
    row = beside_papers(summary(leaderboard(runs)), [paper], "_mean").iloc[0]
    assert (row["seeds"], row["within_spread"]) == (2, "linear yes")


@pytest.mark.parametrize(
    ("recipe", "cell"), [("tan2024-cifar10-sum-400", "linear 91.72"), ("tan2024-cifar10-concat-400", ABSENT)]
)
def test_recipes_show_the_cells_of_their_papers(make, recipe, cell):
    assert beside_papers(leaderboard([make.run(name="run")]), load())["published"].tolist() == [ABSENT]
    run = make.run()
    run = run.model_copy(update={"recipe": run.recipe | {"name": recipe}})
    assert beside_papers(leaderboard([run]), load())["published"].tolist() == [cell]
