"""Published numbers: one schema, only numbers that were read in the papers, and the statistics of claims."""

import math

import numpy as np
import pytest
from scipy import stats

from twoview.bench.config import recipe as recipes
from twoview.loaders.datasets import DATASETS
from twoview.reports import papers
from twoview.reports.papers import Claim, Paper, check
from twoview.reports.significance import resolvable

PAPERS = papers.load()
ROWS = [row for paper in PAPERS for row in paper.rows]
CLAIMS = [claim for paper in PAPERS for claim in paper.claims]
RECIPES = {path.stem: recipes.load(path.stem) for path in recipes.all_files()}


def rows(paper, **which):
    return [r for r in ROWS if r.paper == paper and all(getattr(r, key) == value for key, value in which.items())]


def test_every_file_is_read():
    """The four papers, and other projects with published numbers."""
    assert {"lee2025", "tan2024", "assran2023", "wen2021"} < {paper.key for paper in PAPERS}
    assert all(paper.title and paper.address.startswith("https://") for paper in PAPERS)
    assert {claim.paper for claim in CLAIMS} == {"lee2025", "tan2024", "assran2023", "wen2021"}
    said = [(row.paper, row.table, row.row, row.backbone, row.metric) for row in ROWS]
    assert len(said) == len(set(said)), "each cell once"
    assert all(row.note for row in ROWS if row.provenance == "inferred")
    assert {one.dataset for one in (*ROWS, *CLAIMS)} <= {None, *DATASETS}, "named as in twoview"


def test_costs_are_as_published():
    cost = {row.row: row for row in rows("lee2025", table="cost")}
    assert {name: (r.gpus, r.hardware, r.hours, r.memory_gb) for name, r in cost.items()} == {
        "pretraining": (8, "NVIDIA V100", 60.0, 13.0),
        "linear evaluation": (8, "NVIDIA V100", 36.0, 8.0),
        "kNN evaluation": (8, "NVIDIA V100", pytest.approx(40 / 60, abs=1e-4), 30.0),
    }
    assert cost["pretraining"].gpu_hours == 480 and cost["linear evaluation"].gpu_hours == 288
    assert all(
        (r.gpus, r.hardware, r.epochs, r.hours) == (1, "NVIDIA A100", 400, None) for r in rows("tan2024", table="cost")
    )
    dali = {r.row: (r.hours, r.memory_gb) for r in rows("solo-learn", table="README, training time, with DALI")}
    assert dali["Barlow Twins"] == (pytest.approx((43 * 60 + 2) / 3600, abs=1e-4), 9.292)
    simclr = rows("lightly", row="SimCLR", batch=512, epochs=800)[0]
    assert (simclr.value, simclr.memory_gb) == (87.9, 4.9) and simclr.hours == pytest.approx(331.1 / 60, abs=1e-4)
    assert [r.gpu_hours for r in rows("ffcv-ssl")] == pytest.approx([65.6, 96, 35, 253.6])
    assert not any(r.hardware or r.hours for r in rows("assran2023"))


def test_accuracies_are_as_published():
    def cell(paper, **which):
        (row,) = rows(paper, **which)
        return row.cell

    assert cell("tan2024", row="SimCLR", dataset="cifar10", epochs=400) == "90.6"
    assert cell("tan2024", row="Simple Sum", dataset="cifar100", epochs=400) == "68.62"
    assert cell("solo-learn", row="VICReg", dataset="cifar100", metric="top1") == "68.54"
    assert cell("solo-learn", row="W-MSE", dataset="imagenet-100", metric="linear_top5") == "91.22"
    assert cell("solo-learn", row="SimCLR", dataset="imagenet-100", metric="linear_top1") == "not published here"
    assert cell("lightly", row="PMSN", dataset="imagenette-160") == "82.2"
    assert cell("lightly", row="SimCLR + DCLW", metric="knn_top1", dataset="imagenet") == "48.5"
    assert cell("simclr-cifar10", backbone="ResNet-50", epochs=1000, metric="linear_top1") == "93.4 ± 0"
    assert cell("haochen2021", row="spectral contrastive loss", dataset="tiny-imagenet", epochs=800) == "49.86"
    assert cell("vissl", epochs=200) == "66.61" and cell("mae", backbone="ViT-H", provenance="code") == "77.2"
    assert cell("stable-pretraining", row="MSN", metric="knn_top1") == "50.6"


def test_numbers_that_could_not_be_read_are_missing():
    """Four cells of Tan's Table 1 were read, and none of Lee, Assran and Wen."""
    assert sorted(row.value for row in rows("tan2024") if row.value) == [66.29, 68.62, 90.6, 91.72]
    assert all(row.cell == papers.ABSENT for name in ("lee2025", "assran2023", "wen2021") for row in rows(name))
    assert [claim.value for claim in CLAIMS if claim.value] == [1.12, 2.33, 1.55]


def test_recipes_agree_with_the_papers():
    """A recipe has its row's settings, and an accuracy that it calls found is its row's accuracy."""
    for row in ROWS:
        if row.recipe is None or row.work != "pretraining":
            continue
        one = RECIPES[row.recipe]
        for key in ("dataset", "epochs", "batch"):
            assert getattr(row, key) in (None, getattr(one, key)), (row, key)
        assert (one.budget.gpus or row.gpus) == (row.gpus or one.budget.gpus), row
    for one in RECIPES.values():
        own = [row for row in ROWS if row.recipe == one.name and row.work == "pretraining"]
        if one.expected.provenance.startswith("found"):
            word = "knn" if one.expected.knn_top1 else ""
            (found,) = (row.value for row in own if row.value and str(row.metric).startswith(word))
            assert found == (one.expected.knn_top1 or one.expected.linear_top1), one.name
        else:
            assert not any(row.value for row in own), one.name
        if one.budget.hours:
            (spent,) = (row for row in own if row.hours)
            assert one.budget.hours == pytest.approx(spent.hours, abs=0.0051), "recipes have two decimals"
            assert (one.budget.memory_gib, one.budget.gpu) == (spent.memory_gb, spent.hardware), one.name


def test_claims_name_recipes():
    for claim in CLAIMS:
        for name in (*claim.contrast, *claim.correlation):
            assert name in RECIPES and claim.dataset in (None, RECIPES[name].dataset), (claim.claim, name)
        assert claim.statistic and abs(sum(claim.contrast.values())) < 1e-12, claim.claim


WHOLE = """
title = "T"
address = "https://a"
[[tables]]
table = "1"
provenance = "paper"
rows = [{ row = "a", metric = "knn_top1", knn = "k = 200", value = 1 }]
"""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('value = 1 }', 'value = 1, hour = 2 }'), r"rows\.0\.hour: Extra inputs"),
        (('title = "T"', 'titel = "T"'), r"title"),
        (('"paper"', '"recalled"'), r"rows\.0\.provenance"),
        (('metric = "knn_top1", knn = "k = 200", ', ''), r"rows\.0: .*a value or a spread must have a metric"),
        (('knn = "k = 200", ', ''), r"rows\.0: .*the key knn must be given for a kNN accuracy"),
        (('"knn_top1"', '"linear_top1"'), r"rows\.0: .*the key knn must be given for a kNN accuracy"),
        (('value = 1', 'spread = 1'), r"rows\.0: .*a row with a spread must have a value"),
        (('rows = [{', 'rowz = [{'), r"tables\.0 must have a list of rows"),
        (('title = "T"', 'title = '), r"is not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_file(tmp_path, change, named):
    path = tmp_path / "p.toml"
    path.write_text(WHOLE)
    assert isinstance(papers.read(path), Paper)
    path.write_text(WHOLE.replace(*change))
    with pytest.raises(ValueError, match=rf"p\.toml.*{named}"):
        papers.read(path)


def test_a_claim_has_one_check():
    for wrong in ({"against": "bias"}, {"correlation": ("a",), "against": "b"}, {"metric": None}):
        with pytest.raises(ValueError):
            claimed(**{"contrast": {"a": 1.0}, **wrong})


def claimed(**fields):
    given = {"paper": "p", "claim": "c", "statistic": "s", "metric": "linear_top1", "provenance": "paper"}
    return Claim(**{**given, **fields})


@pytest.mark.parametrize("two_sided", [False, True])
def test_a_contrast_of_two_recipes_is_a_paired_t_test(make, two_sided):
    a, b = np.array([[70.1, 71.0, 69.5, 70.4], [68.9, 69.2, 69.9, 68.0]])
    runs = [
        make.run(linear=x, seed=s, name=f"{n}{s}", **{"method": {"name": "m"}})
        for n in "ab"
        for s, x in enumerate(a if n == "a" else b)
    ]
    runs = [run.model_copy(update={"recipe": run.recipe | {"name": run.name[0]}}) for run in runs]
    alone = make.run(linear=99.0, seed=9)
    alone = alone.model_copy(update={"recipe": alone.recipe | {"name": "a"}})
    verdict = check(claimed(contrast={"a": 1, "b": -1}, two_sided=two_sided), [alone, *runs])
    truth = stats.ttest_rel(a, b, alternative="two-sided" if two_sided else "greater")
    low, high = stats.ttest_rel(a, b).confidence_interval()
    assert verdict == pytest.approx((np.mean(a - b), low, high, truth.statistic, truth.pvalue, 4, resolvable(a - b)))


def named(run, name):
    return run.model_copy(update={"recipe": run.recipe | {"name": name}})


def test_a_contrast_of_contrasts_and_too_few_seeds(make):
    values = {"a": 80.0, "b": 70.0, "c": 65.0, "d": 64.0}
    runs = [named(make.run(linear=v + s * (n == "a"), seed=s), n) for n, v in values.items() for s in range(3)]
    weights = {"a": 1, "b": -1, "c": -1, "d": 1}
    verdict = check(claimed(contrast=weights), runs)
    assert verdict.size == pytest.approx((9 + 10 + 11) / 3 / 2) and verdict.of == 3 and verdict.p < 0.01
    one, two = (check(claimed(contrast=weights), [r for r in runs if r.seed < count]) for count in (1, 2))
    assert (one.size, one.p, one.of) == (4.5, None, 1) and math.isnan(one.low)
    assert (two.size, two.p, two.of) == (4.75, None, 2), "two seeds are too few for a test"
    assert check(claimed(contrast=weights), [r for r in runs if r.recipe["name"] != "d"]) is None
    assert check(claimed(), runs) is None


def test_a_rank_correlation_over_runs(make):
    def run(name, seed, bias, accuracy):
        training = make.training.model_copy(update={"logged": {"bias": [9.0, bias]}})
        return named(make.run(linear=accuracy, seed=seed, training=training), name)

    claim = claimed(correlation=("a", "b"), against="bias")
    runs = [
        run(n, s, b, x) for n, s, b, x in (("a", 0, 0.1, 80), ("a", 1, 0.2, 81), ("b", 0, 0.5, 70), ("b", 1, 0.6, 69))
    ]
    verdict = check(claim, [*runs, named(make.run(seed=7), "a"), run("c", 0, 7.0, 99)])
    assert verdict.size == pytest.approx(stats.spearmanr([0.1, 0.2, 0.5, 0.6], [80, 81, 70, 69]).statistic)
    assert verdict.of == 4 and 0 < verdict.p < 0.5 and math.isclose(verdict.statistic, verdict.size)
    reach = 1.959964 * math.sqrt(1 + verdict.size**2 / 2)  # of four runs; Bonett and Wright 2000
    assert (math.atanh(verdict.low), math.atanh(verdict.high)) == pytest.approx(
        (math.atanh(verdict.size) - reach, math.atanh(verdict.size) + reach)
    )
    least = verdict.resolvable
    assert math.atanh(least) == pytest.approx((1.959964 + 0.841621) * math.sqrt(1 + least**2 / 2), rel=1e-6)
    assert check(claim, runs[:3]).p is None and check(claim, runs[:1]) is None and check(claim, []) is None
