"""Evaluation of a recipe's encoder with the standard probes: trained, untrained, or replaced by the raw pixels."""

import hashlib
from pathlib import Path
from typing import Any

from torch import nn

from twoview.bench.config.experiment import Place, build_method, evaluated, normalize_for, run_name, trained_method
from twoview.bench.config.recipe import Recipe, dataset_of, in_a_file_name, overrides, parse
from twoview.bench.evaluation import probing
from twoview.bench.evaluation.encoders import Published
from twoview.bench.evidence import Accuracy, Run, trained
from twoview.methods import checkpoint
from twoview.methods.probes.features import fingerprint

PROBES = ("knn", "knn-10", "linear")  # the standard probes
# Keys of the `[probe]` table that decide a baseline's accuracies and are therefore part of its name.
JUDGED_BY = {"train_images", "held_out", "test_images", "k", "temperature", "weight_decay"}


def judge(path: Path, place: Place) -> Run:
    """Probe a finished checkpoint's encoder; return the run's record. Raises ValueError if training is unfinished."""
    state = checkpoint.load(path)
    training, ceilings = trained.measured(path, state)
    encoder, recipe = _trained(path, state)
    return Run(
        name=run_name(recipe),
        subject="trained",
        recipe=recipe.published(),
        seed=recipe.seed,
        overrides=overrides(recipe),
        **_probe(encoder, recipe, place),
        training=training,
        ceilings=ceilings,
    )


def judge_untrained(recipe: Recipe[Any], place: Place) -> Run:
    """Probe the recipe's encoder before the first step, with the weights that it starts from; return the record."""
    name = baseline_name("untrained", recipe)
    encoder = _as_published(name, build_method(recipe).encoder, recipe, "untrained")
    return _baseline("untrained", recipe, place, encoder)


def judge_pixels(recipe: Recipe[Any], place: Place) -> Run:
    """Probe the normalized pixels as if they were features; return the record."""
    encoder = _as_published(baseline_name("pixels", recipe), nn.Identity(), recipe, "the pixels themselves")
    return _baseline("pixels", recipe, place, encoder)


def trained_encoder(path: Path, momentum: bool = False) -> tuple[Published, Recipe[Any]]:
    """Return the encoder in a checkpoint of `twoview train`, finished or not, as probes see it, and the recipe.

    momentum: take the moving average of the encoder. Raises ValueError if the method has none.
    """
    return _trained(path, checkpoint.load(path), momentum)


def baseline_name(subject: str, recipe: Recipe[Any]) -> str:
    """Return the name of a baseline's record. It encodes everything that the accuracies depend on.

    subject: pixels or untrained. The accuracies of pixels depend only on the data; those of an untrained encoder also
    on backbone and seed, but not on the method.
    """
    judged_by = recipe.model_dump_json(include={"dataset": True, "size": True, "probe": JUDGED_BY})
    dataset = in_a_file_name(recipe.dataset)
    if subject == "pixels":
        return f"pixels-{dataset}-{recipe.size}-{_hash(judged_by)}"
    encoder = f"{in_a_file_name(recipe.backbone.name)}-{_hash(judged_by + recipe.backbone.model_dump_json())}"
    return f"untrained-{dataset}-{recipe.size}-{encoder}-seed{recipe.seed}"


def _hash(text: str) -> str:
    """Return a short hash of a text, for a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _trained(path: Path, state: dict[str, Any], momentum: bool = False) -> tuple[Published, Recipe[Any]]:
    """Return the trained encoder in a checkpoint's state, and its recipe."""
    recipe = parse(state["recipe"], str(path))
    module = evaluated(recipe, trained_method(recipe, state["method"], path), momentum)
    name = run_name(recipe) + ("-momentum" if momentum else "")
    return _as_published(name, module, recipe, str(path)), recipe


def _as_published(name: str, module: nn.Module, recipe: Recipe[Any], source: str) -> Published:
    """Return the module as an encoder for the probes. A module without `dim` outputs the pixels themselves."""
    normalize = normalize_for(recipe)
    dim = getattr(module, "dim", 3 * recipe.size**2)
    return Published(name, module.eval(), dim, recipe.size, normalize, fingerprint(module, normalize), source)


def _baseline(subject: Any, recipe: Recipe[Any], place: Place, encoder: Published) -> Run:
    """Probe a baseline and return its record."""
    return Run(
        name=encoder.name,
        subject=subject,
        recipe=recipe.published(),
        seed=recipe.seed,
        overrides=overrides(recipe),
        **_probe(encoder, recipe, place),
    )


def _probe(encoder: Published, recipe: Recipe[Any], place: Place) -> dict[str, Any]:
    """Run `PROBES` on the recipe's dataset with its `[probe]` table; return a record's accuracy, data and left_out."""
    bench = probing.Bench(encoder, dataset_of(recipe), recipe.probe, place)
    probes = {label: found for name in PROBES for label, found in probing.probe(bench, name)}
    accuracy = Accuracy(
        knn_top1=probes["knn"].top1,
        linear_top1=probes["linear"].top1,
        train_images=probes["knn"].train_images,
        test_images=probes["knn"].test_images,
        probes=probes,
    )
    return {"accuracy": accuracy, "data": bench.data, "left_out": bench.left_out}
