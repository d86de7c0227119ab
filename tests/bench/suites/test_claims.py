"""The papers' claims at reduced scale: every recipe belongs to a claim, and every scale is recognized."""

import pytest

from twoview import cli
from twoview.bench.config import claims_scale, recipe
from twoview.bench.config.claims_scale import SCALES, every_scale, names, scale_of
from twoview.bench.config.experiment import Place
from twoview.bench.suites import claims
from twoview.commands import suite as suite_command
from twoview.commands import suite_claims
from twoview.loaders import presets
from twoview.reports import papers

EVERY_SCALE = every_scale()


def test_every_recipe_belongs_to_a_claim_and_every_claim_has_its_recipes():
    checks = [check for paper in papers.load() for claim in paper.claims for check in claim.reduced]
    used = {name for check in checks for name in (*check.contrast, *check.correlation)}
    assert used == set(names())
    on = {name: recipe.load(name).dataset for name in used}
    for check in checks:
        assert {on[name] for name in (*check.contrast, *check.correlation)} <= {check.dataset}, check.statistic


def test_compared_recipes_differ_only_in_what_the_claim_is_about():
    allowed = ("method", "views", "epochs", "classes_per_batch", "train_images", "long_tail", "name")
    for name in names():
        one = recipe.load(name)
        if one.base and one.dataset == "cifar10":
            mine, theirs = (recipe.flat(each.settings()) for each in (one, recipe.load(one.base)))
            changed = {key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)}
            assert all(key.startswith(allowed) for key in changed), (name, changed)


def test_the_debiased_recipes_cost_as_much_as_simclr():
    whole = 2 * recipe.load("claims-lee2025-simclr").epochs
    for m in (2, 4, 8):
        one = recipe.load(f"claims-lee2025-debiased-{m}")
        assert one.method.prototype_views == m
        assert one.epochs * (m + 1) == pytest.approx(whole, rel=0.15)


def test_all_kernels_are_tuned_alike():
    tuned = [one for name in names() if (one := recipe.load(name)).search.ranges]
    assert len(tuned) == 10 and len({one.search.epochs for one in tuned}) == 1
    shared = ("optim.lr", "method.temperature")
    assert len({str([one.search.ranges[key] for key in shared]) for one in tuned}) == 1


@pytest.mark.parametrize("name", EVERY_SCALE)
def test_a_runs_scale_is_recognized_for_any_seed_and_searched_value(name):
    for file in map(recipe.load, names()):
        one = EVERY_SCALE[name].of(file)
        assert presets.preset(one.views, one.size) and one.optim.warmup_epochs <= one.epochs
        searched = {key: values[0] for key, values in one.search.ranges.items()}
        assert scale_of(recipe.with_values(one, {**searched, "seed": 3}), ["seed"]) == name
    assert scale_of(recipe.with_values(one, {"optim.weight_decay": 0.5}), ["seed"]) == ""
    assert scale_of(recipe.load("quick-cifar10"), ["seed"]) == ""


def test_recipes_on_missing_datasets_are_named_and_skipped(tmp_path, monkeypatch, capsys):
    place = Place(tmp_path / "betons", tmp_path / "checkpoints", tmp_path)
    missing = {"cifar100": "CIFAR-100 is not here."}
    monkeypatch.setattr(claims, "_problem", lambda dataset, place: missing.get(dataset, ""))
    steps = [step.name for step in claims.steps(SCALES["cpu"], place)]
    assert "5 recipes on cifar100 are skipped: CIFAR-100 is not here." in capsys.readouterr().err
    assert {f"claims-assran2023-mae-k2-seed{seed}" for seed in range(3)} < set(steps)
    assert not any("cifar100" in step for step in steps)
    assert steps[-2:] == ["theory-spectral", "theory-images"]
    assert "theory-images" not in [step.name for step in claims.steps(SCALES["cpu"].quick, place)]


def test_a_missing_dataset_is_reported_in_one_sentence(tmp_path):
    place = Place(tmp_path / "betons", tmp_path / "checkpoints", tmp_path)
    assert "cifar" in claims._problem("cifar10", place) and claims._problem("fashion-mnist", place) == ""


@pytest.mark.long
def test_the_command_runs_the_claims_and_shows_the_verdicts(cifar_root, tmp_path, monkeypatch, capsys):
    """With two very small recipes of one claim; a second run repeats nothing."""
    monkeypatch.chdir(tmp_path)
    two = ["claims-lee2025-simclr", "claims-lee2025-dot"]
    monkeypatch.setattr(claims_scale, "names", lambda: two)
    small = {"train_images": 256, "probe.train_images": 200, "probe.test_images": 100, "backbone.width": 4}
    tiny = claims_scale.Scale(seeds=3, trials=0, images=False, length=0.01, settings={"all": small})
    monkeypatch.setitem(SCALES, "cpu", tiny)
    assert cli.run(["suite", "claims", "--data-root", str(cifar_root)]) == 0
    assert "at reduced scale" in capsys.readouterr().out
    assert (tmp_path / "out" / "claims" / "evidence" / "claims-lee2025-dot-seed2.json").exists()
    assert cli.run(["suite", "claims", "--data-root", str(cifar_root), "--json"]) == 0
    shown = capsys.readouterr()
    assert "already finished" in shown.err and '"scale":"reduced, cpu"' in shown.out


@pytest.mark.parametrize("words", ["claims", "claims --quick", "--quick claims", "--json claims --scale gpu"])
def test_the_suites_name_may_precede_or_follow_its_options(words):
    assert suite_command.command(words.split()) is suite_claims.run
    assert suite_command.command(["quick", "--out", "claims"]) is suite_command.run
