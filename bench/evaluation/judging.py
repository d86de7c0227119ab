"""Judging an encoder: trained, untrained, or none at all, which is the pixels."""

import hashlib
from pathlib import Path
from typing import Any

from torch import nn

from twoview.bench.config.experiment import Place, build_method, normalize_for, run_name, trained_method
from twoview.bench.config.recipe import Recipe, in_a_file_name, overrides, parse
from twoview.bench.evaluation import probing
from twoview.bench.evaluation.encoders import Published
from twoview.bench.evidence import Accuracy, Run, trained
from twoview.loaders import datasets
from twoview.methods import checkpoint
from twoview.methods.probes.features import fingerprint

PROBES = ("knn", "knn-10", "linear")
# What of the `[probe]` table decides a baseline's accuracies, and so its name.
JUDGED_BY = {"train_images", "held_out", "test_images", "k", "temperature", "weight_decay"}


def judge(path: Path, place: Place) -> Run:
    """Probes a finished checkpoint's encoder; returns the record of the run. ValueError if training is not finished."""
    state = checkpoint.load(path)
    training, ceilings = trained.measured(path, state)
    encoder, recipe = _trained(path, state)
    return Run(
        name=run_name(recipe),
        subject="trained",
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.seed,
        overrides=overrides(recipe),
        **_probe(encoder, recipe, place),
        training=training,
        ceilings=ceilings,
    )


def judge_untrained(recipe: Recipe[Any], place: Place) -> Run:
    """The record of the recipe's encoder as the seed made it, before the first step."""
    name = baseline_name("untrained", recipe)
    encoder = _as_published(name, build_method(recipe).encoder, recipe, "untrained")
    return _baseline("untrained", recipe, place, encoder)


def judge_pixels(recipe: Recipe[Any], place: Place) -> Run:
    """The record of the normalized pixels themselves as the representation."""
    encoder = _as_published(baseline_name("pixels", recipe), nn.Identity(), recipe, "the pixels themselves")
    return _baseline("pixels", recipe, place, encoder)


def trained_encoder(path: Path) -> tuple[Published, Recipe[Any]]:
    """What the probes see of a checkpoint that `twoview train` wrote, finished or not, and its recipe."""
    return _trained(path, checkpoint.load(path))


def baseline_name(subject: str, recipe: Recipe[Any]) -> str:
    """Pixels depend on the data alone; an untrained encoder on backbone and seed too, but on no method."""
    judged_by = recipe.model_dump_json(include={"dataset": True, "size": True, "probe": JUDGED_BY})
    dataset = in_a_file_name(recipe.dataset)
    if subject == "pixels":
        return f"pixels-{dataset}-{recipe.size}-{_hash(judged_by)}"
    encoder = f"{recipe.backbone.name}-{_hash(judged_by + recipe.backbone.model_dump_json())}"
    return f"untrained-{dataset}-{recipe.size}-{encoder}-seed{recipe.seed}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _trained(path: Path, state: dict[str, Any]) -> tuple[Published, Recipe[Any]]:
    recipe = parse(state["recipe"], str(path))
    method = trained_method(recipe, state["method"], path)
    return _as_published(run_name(recipe), method.probed, recipe, str(path)), recipe


def _as_published(name: str, module: nn.Module, recipe: Recipe[Any], source: str) -> Published:
    normalize = normalize_for(recipe)
    dim = getattr(module, "dim", 3 * recipe.size**2)
    return Published(name, module.eval(), dim, recipe.size, normalize, fingerprint(module, normalize), source)


def _baseline(subject: Any, recipe: Recipe[Any], place: Place, encoder: Published) -> Run:
    return Run(
        name=encoder.name,
        subject=subject,
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.seed,
        overrides=overrides(recipe),
        **_probe(encoder, recipe, place),
    )


def _probe(encoder: Published, recipe: Recipe[Any], place: Place) -> dict[str, Any]:
    """A record's accuracy by `PROBES`, on the recipe's own dataset and as its `[probe]` table says; its data."""
    bench = probing.Bench(encoder, datasets.dataset(recipe.dataset), recipe.probe, place)
    probes = {label: found for name in PROBES for label, found in probing.probe(bench, name)}
    accuracy = Accuracy(
        knn_top1=probes["knn"].top1,
        linear_top1=probes["linear"].top1,
        train_images=probes["knn"].train_images,
        test_images=probes["knn"].test_images,
        probes=probes,
    )
    return {"accuracy": accuracy, "data": bench.data, "left_out": bench.left_out}
