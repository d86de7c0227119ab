"""Judging an encoder: trained, untrained, or none at all, which is the pixels."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import betons
from bench.environment import cpu_count
from bench.evidence import Accuracy, Run
from bench.experiment import Place, best_device, build_method, chosen, normalise_for, run_name
from bench.progress import progress
from bench.recipe import Recipe, parse
from bench.training import measured
from loaders import datasets, presets
from loaders.loader import Loader
from methods import checkpoint
from methods.method import Method
from methods.probes.features import extract
from methods.probes.knn import knn_top1
from methods.probes.linear import linear_top1

PROBE_BATCH = 500


def judge(path: Path, place: Place) -> Run:
    """Probes a finished checkpoint's encoder; returns the record of the run. ValueError if training is not finished."""
    state = checkpoint.load(path)
    recipe = parse(state["recipe"], str(path))
    training, ceilings = measured(path)
    method = build_method(recipe)
    method.load_state_dict(state["method"])
    return Run(
        name=run_name(recipe),
        subject="trained",
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.seed,
        accuracy=_probe(run_name(recipe), recipe, method.encode, method, place),
        training=training,
        ceilings=ceilings,
    )


def judge_untrained(recipe: Recipe[Any], place: Place) -> Run:
    """The record of the recipe's encoder as the seed made it, before the first step."""
    method = build_method(recipe)
    name = baseline_name("untrained", recipe)
    return _baseline("untrained", recipe, _probe(name, recipe, method.encode, method, place))


def judge_pixels(recipe: Recipe[Any], place: Place) -> Run:
    """The record of the normalised pixels themselves as the representation."""
    name = baseline_name("pixels", recipe)
    return _baseline("pixels", recipe, _probe(name, recipe, lambda x: x, None, place))


def baseline_name(subject: str, recipe: Recipe[Any]) -> str:
    """Pixels depend on the data alone; an untrained encoder on backbone and seed too, but on no method."""
    judged_by = recipe.model_dump_json(include={"dataset", "size", "probe"})
    if subject == "pixels":
        return f"pixels-{recipe.dataset}-{recipe.size}-{_hash(judged_by)}"
    encoder = f"{recipe.backbone.name}-{_hash(judged_by + recipe.backbone.model_dump_json())}"
    return f"untrained-{recipe.dataset}-{recipe.size}-{encoder}-seed{recipe.seed}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _baseline(subject: Any, recipe: Recipe[Any], accuracy: Accuracy) -> Run:
    return Run(
        name=baseline_name(subject, recipe),
        subject=subject,
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.seed,
        accuracy=accuracy,
    )


def _probe(
    what: str, recipe: Recipe[Any], encode: Callable[[Tensor], Tensor], method: Method | None, place: Place
) -> Accuracy:
    device = best_device()
    if method:
        method.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    with (
        _probe_loader(recipe, "train", recipe.probe.train_images, place) as train_loader,
        _probe_loader(recipe, "test", recipe.probe.test_images, place) as test_loader,
        progress(f"probe {what}", len(train_loader) + len(test_loader) + 2) as advance,
    ):
        normalise = normalise_for(recipe).to(device)
        train = extract(encode, train_loader, normalise, device, advance)
        test = extract(encode, test_loader, normalise, device, advance)
        knn = knn_top1(*train, *test, k=recipe.probe.k, temperature=recipe.probe.temperature)
        advance()
        linear = linear_top1(*train, *test, weight_decay=recipe.probe.weight_decay)
        advance()
    return Accuracy(knn_top1=knn, linear_top1=linear, train_images=len(train[0]), test_images=len(test[0]))


def _probe_loader(recipe: Recipe[Any], split: datasets.Split, count: int, place: Place) -> Loader:
    file = betons.of_dataset(recipe.dataset, split, place.betons, place.root)
    indices = chosen(file.labels, recipe.probe.held_out if split == "train" else 0, count)
    views = presets.preset("eval", recipe.size)
    return Loader(file, views, PROBE_BATCH, indices=indices, shuffle=False, drop_last=False, threads=cpu_count())
