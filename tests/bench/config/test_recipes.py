"""The package's recipes: each loads, builds its model and can be trained; expected accuracies have a provenance."""

import tomllib

import numpy as np
import pytest
import torch

from twoview.bench import evidence
from twoview.bench.config import recipe
from twoview.bench.config.experiment import build_method
from twoview.bench.suites import runner
from twoview.loaders import datasets, masks, presets
from twoview.methods import optim, registry
from twoview.methods.backbones import Backbone
from twoview.methods.vit import VITS
from twoview.reports.documents import RESULTS

RECIPES = {path.stem: recipe.load(path.stem) for path in recipe.all_files()}
SMALL, SMALL_VIT = Backbone(width=8), Backbone(name="vit-mini", patch=4)


def take_two_steps(one):
    """Train two steps on 8 random images, of 16 pixels unless there are masks."""
    method = build_method(one)
    kept = tuple(torch.from_numpy(masks.draw(mask, np.arange(8), 0, 0)) for mask in method.masks)
    sides = [view.size if kept else 16 for view in method.views]
    optimizer = optim.build(one.optim, method)
    classes = len(datasets.dataset(one.dataset).classes)
    before = next(method.encoder.parameters()).clone()
    for _ in range(2):
        views = tuple(torch.randn(8, 3, side, side) for side in sides)
        out = method.loss(views, torch.randint(0, classes, (8,)), kept)
        assert all(value.isfinite() for value in out.values()), out
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        method.after_step(0.5)
    assert not torch.equal(next(method.encoder.parameters()), before)


def distinct(key):
    """Return one recipe's name for each distinct value of the key."""
    return sorted({key(one): name for name, one in reversed(RECIPES.items())}.values())


def test_names_are_unique():
    assert len(RECIPES) == len(recipe.all_files())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_its_model(name):
    one = RECIPES[name]
    assert one.name == name and one.source
    with torch.device("meta"):  # shapes without memory
        method = build_method(one)
    assert set(method.views) == set(presets.preset(one.views, one.size))


def heavy(name):
    """Return whether the expander is 8192 wide, so that two steps take seconds."""
    return getattr(RECIPES[name].method, "projection", 0) >= 8192


@pytest.mark.parametrize("name", [n for n in distinct(lambda one: (one.method, one.optim)) if not heavy(n)])
def test_every_recipes_method_takes_two_steps(name):
    """All settings of method and optimizer, on a small encoder."""
    one = RECIPES[name]
    small = {"backbone": SMALL_VIT, "size": 56} if one.backbone.name in VITS else {"backbone": SMALL}
    kind = registry.entry(one.method.name).method
    if kind.needs_vit:
        fewer = {"layers": 2, "decoder_depth": 1} if kind.takes == 1 else {"focal_views": 1}
        small["method"] = one.method.model_copy(update=fewer)
    take_two_steps(one.model_copy(update=small))


def convolutional(name):
    """Excludes ViTs, which take minutes at 224 pixels, and WRN-34-5, which takes seconds and has WRN-10-1's code."""
    backbone = RECIPES[name].backbone
    return backbone.name not in VITS and not (backbone.name == "wide-resnet" and backbone.depth > 10)


@pytest.mark.parametrize("name", [n for n in distinct(lambda one: (one.method.name, one.backbone)) if convolutional(n)])
def test_every_method_takes_two_steps_on_its_recipes_backbone(name):
    take_two_steps(RECIPES[name])


def test_a_papers_expected_accuracy_has_a_provenance():
    for name, one in RECIPES.items():
        if name.startswith(("lee2025", "tan2024", "assran2023", "wen2021", "solo", "lightly")):
            stated = recipe.find(name).read_text()
            assert "expected" in tomllib.loads(stated), name
            numbers = (one.expected.linear_top1, one.expected.knn_top1)
            assert any(numbers) != one.expected.provenance.startswith("not found"), name


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        ("tan2024-cifar10-simclr-400", 90.60),
        ("tan2024-cifar10-sum-400", 91.72),
        ("tan2024-cifar100-simclr-400", 66.29),
        ("tan2024-cifar100-sum-400", 68.62),
        ("solo-cifar10-simclr", 90.74),
        ("solo-cifar10-vicreg", 92.07),
        ("solo-cifar10-byol", 92.58),
        ("solo-cifar10-barlow", 92.10),
    ],
)
def test_only_accuracies_that_were_found_are_stated_as_found(name, accuracy):
    assert RECIPES[name].expected.linear_top1 == accuracy
    assert RECIPES[name].expected.provenance.startswith("found")
    found = [n for n, one in RECIPES.items() if n.startswith("tan") and one.expected.provenance.startswith("found")]
    assert len(found) == 4, "only four cells of Tan et al.'s Table 1 were read; the others are from memory"


def test_the_debiased_recipes_cost_as_much_as_simclr():
    for dataset in ("imagenet", "imagenet-lt", "cifar10"):
        whole = 2 * RECIPES[f"lee2025-{dataset}-simclr"].epochs
        for m in (2, 4, 8):
            one = RECIPES[f"lee2025-{dataset}-debiased-{m}"]
            assert one.method.prototype_views == m
            assert one.epochs * (m + 1) == pytest.approx(whole, rel=0.02)


def test_the_methods_suite_has_every_method_once_on_the_same_images():
    ones = [RECIPES[name] for name in runner.SUITES["methods"].recipes]
    assert sorted(one.method.name for one in ones) == sorted(registry.METHODS)
    assert len({(one.dataset, one.train_images, one.batch, one.size) for one in ones}) == 1
    probes = {one.probe.model_copy(update={"online_knn_epochs": 0}) for one in ones}
    assert len(probes) == 1 and all(one.probe.online_knn_epochs for one in ones), "each has a learning curve"
    assert len({one.backbone for one in ones if one.backbone.name not in VITS}) == 1


def test_a_record_with_the_older_spelling_of_a_key_is_read():
    """Its key for normalized pixels has since been renamed, and an unknown key would be an error."""
    record = evidence.read(RESULTS / "gpu" / "gpu-method-mae.json")
    keys = set(record.recipe["method"])
    assert "normalize" not in keys and recipe.parse(record.recipe, record.name).method.normalize is True


def test_the_quickstart_recipe_is_the_best_of_its_ranking():
    """Except for the precision, which is chosen on each machine but fixed in a ranking."""
    quick, ranked = (recipe.flat(RECIPES[name].settings()) for name in ("quick-fashion-mnist", "rank-fashion-mnist"))
    assert {key for key in quick if quick[key] != ranked[key]} == {"name", "precision"}
