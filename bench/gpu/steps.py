"""One step of every method, and of every budget that a paper states: its time, its memory, and what it comes to."""

import statistics
from typing import Any

from bench import evidence, recipe
from bench.evidence import DeviceFigures, Figure
from bench.gpu import rates
from bench.gpu.scale import HEADLINE, Context
from bench.gpu.stepping import peaks, resident_batch, stepped
from bench.memory import PeakMemory
from bench.recipe import Budget, Recipe
from loaders import datasets

PROJECTED = "pretraining on one card, projected"
SIMCLR = "simclr-imagenet"  # the views of a method that has none of its own
VIEWS = {"supervised": "supervised", "mae": "mae", "data2vec": "mae", "msn": "msn", "pmsn": "msn"}
OF_A_VIT = ("mae", "data2vec", "msn", "pmsn")


def method_name(method: str) -> str:
    return f"gpu-method-{method}"


def of_method(context: Context, method: str) -> DeviceFigures:
    """A method of default options at 224, on ResNet-50 or ViT-B/16 as its source, a resident batch, not compiled:
    milliseconds and peak memory.
    """
    changes = {"method": {"name": method}, "batch": context.scale.step_batch, "views": VIEWS.get(method, SIMCLR)}
    if method in OF_A_VIT:
        changes["backbone"] = {"name": "vit-base", "patch": 16}
    one = context.scale.recipe(HEADLINE, changes)
    work = f"{method}, {one.backbone.name} at {one.size}, batch {one.batch}"
    figures, _ = _step(context, one, work)
    return DeviceFigures(
        name=method_name(method), device=context.scale.device, figures=figures, recipe=one.model_dump(mode="json")
    )


def budgets() -> dict[str, tuple[str, ...]]:
    """Recipe -> the recipes, itself first, whose steps cost the same; of all that state what their source spent.

    The headline's comes first, then those whose hours are known.
    """
    stated = [one for one in map(recipe.load, (path.stem for path in recipe.all_files())) if one.budget.gpus]
    stated.sort(key=lambda one: (one.name != HEADLINE, one.budget.hours is None))
    alike: dict[str, list[str]] = {}
    for one in stated:
        alike.setdefault(_cost(one), []).append(one.name)
    return {names[0]: tuple(names) for names in alike.values()}


def _cost(one: Recipe[Any]) -> str:
    """What the time of a step depends on. The number of classes hardly does: CIFAR-10's step is CIFAR-100's."""
    parts = one.model_dump_json(include={"size", "batch", "views", "method", "backbone", "precision"})
    return f"{parts} {one.optim.name}"


def budget_name(name: str) -> str:
    return f"gpu-budget-{name}"


def of_budget(context: Context, names: tuple[str, ...]) -> DeviceFigures:
    """The first recipe's step, measured, and from it the hours of each recipe's pretraining on this one card.

    Where training itself was measured on the recipe, loader and all, the hours come from that. Each projection names
    the measured step it comes from, and beside it stands what the source spent, with its provenance.
    """
    one = context.scale.recipe(names[0])
    work = f"{names[0]}, a step of batch {one.batch}"
    figures, seconds = _step(context, one, work)
    origin = f"the model alone, {seconds:.4g} s a step in {budget_name(names[0])}"
    if real := _real_step(context, names[0], one.batch):
        seconds, origin = real, f"training on JPEGs, {real:.4g} s a step in {rates.name_of(one.batch)}"
    figures += [_projected(recipe.load(name), seconds, origin) for name in names]
    return DeviceFigures(
        name=budget_name(names[0]), device=context.scale.device, figures=figures, recipe=one.model_dump(mode="json")
    )


def _projected(one: Recipe[Any], seconds: float, origin: str) -> Figure:
    """One card's hours are GPU-hours. What the source spent stands in the note, never among what was measured."""
    images = one.train_images or (datasets.dataset(one.dataset).sizes["train"] or 0) - one.held_out
    steps = one.epochs * (images // one.batch)
    note = f"{steps:,} steps; {origin}; the source: {spent(one.budget)}"
    hours = steps * seconds / 3600
    return Figure(work=one.name, figure=PROJECTED, unit="GPU-hours", samples=[hours], note=note)


def spent(budget: Budget) -> str:
    """In words, what is not stated left out."""
    words = [f"{budget.gpus} x {budget.gpu or 'GPU'}"]
    words += [f"{budget.hours:g} hours"] if budget.hours else []
    words += [f"{budget.memory_gib:g} GiB each"] if budget.memory_gib else []
    return f"{', '.join(words)} ({budget.provenance})"


def _real_step(context: Context, name: str, batch: int) -> float | None:
    """Seconds a step of training itself, where that was measured on this recipe and batch."""
    path = evidence.path_of(context.folder, rates.name_of(batch))
    if name != HEADLINE or not path.exists():
        return None
    record = evidence.read(path)
    assert isinstance(record, DeviceFigures) and record.recipe is not None
    real = next(figure for figure in record.figures if figure.figure == "real")
    return 2 * batch / real.median  # two views an image


def _step(context: Context, one: Recipe[Any], work: str) -> tuple[list[Figure], float]:
    """Figures of the recipe's step on a resident batch, and its median seconds."""
    scale = context.scale
    trainer = scale.trainer(one)
    batch = resident_batch(one, trainer)
    memory = PeakMemory()
    seconds = stepped(trainer, batch, scale.warmup, scale.steps).step_seconds
    views = one.batch * len(trainer.method.views)
    figures = [
        Figure(work=work, figure="step", unit="ms", samples=[1000 * second for second in seconds]),
        Figure(work=work, figure="rate", unit="views/s", samples=[views / statistics.median(seconds)]),
        *peaks(memory, work),
    ]
    return figures, statistics.median(seconds)
