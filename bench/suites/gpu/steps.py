"""One step of every method, and of every recipe whose cost a paper states: its time, memory and projected hours."""

import statistics
from collections.abc import Iterator
from typing import Any

from twoview.bench import evidence
from twoview.bench.config import recipe
from twoview.bench.config.recipe import Budget, Recipe
from twoview.bench.costs import projection as budget
from twoview.bench.costs.projection import Steps
from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.measurement.energy import Energy
from twoview.bench.measurement.memory import PeakMemory
from twoview.bench.suites.gpu import rates
from twoview.bench.suites.gpu.scale import HEADLINE, Context, Scale
from twoview.bench.training.steps import peaks, resident_batch, stepped
from twoview.methods import registry
from twoview.methods.device_batches import DeviceBatch
from twoview.methods.trainer import Trainer

SPARE = 5  # steps in addition to those that a projection needs, in case the first ones are not steady


def method_name(method: str) -> str:
    """Return the name of the record of a method's step."""
    return f"gpu-method-{method}"


def measure_method(context: Context, method: str) -> Iterator[DeviceFigures]:
    """Measure a training step of a method with default options, and yield the record.

    The record has the step time in ms, views per second, peak memory and, where it can be read, energy per view. At
    full scale the views are 224 pixels wide and the backbone is ResNet-50, or ViT-B/16 if the method needs a ViT. The
    batch stays on the device, and nothing is compiled.
    """
    one = recipe_of(context.scale, method, context.scale.step_batch)
    work = f"{method}, {one.backbone.name} at {one.size}, batch {one.batch}"
    figures, *_ = _step(context, one, work)
    yield _record(context, method_name(method), one, figures)


def recipe_of(scale: Scale, method: str, batch: int, **changes: Any) -> Recipe[Any]:
    """Return the recipe HEADLINE with its method replaced by another one with default options."""
    kind = registry.entry(method).method
    parts: dict[str, Any] = {"method": {"name": method}, "views": kind.default_views}
    if kind.needs_vit:
        parts["backbone"] = {"name": "vit-base", "patch": 16}
    return scale.recipe(HEADLINE, parts, batch=batch, **changes)


def _record(context: Context, name: str, one: Recipe[Any], figures: list[Figure]) -> DeviceFigures:
    return DeviceFigures(name=name, device=context.scale.device, figures=figures, recipe=one.model_dump(mode="json"))


def budgets() -> dict[str, tuple[str, ...]]:
    """Return groups of recipes with a stated budget whose steps cost the same, by the name of their first recipe.

    HEADLINE comes first, then the recipes whose hours are known.
    """
    stated = [one for one in map(recipe.load, (path.stem for path in recipe.all_files())) if one.budget.gpus]
    stated.sort(key=lambda one: (one.name != HEADLINE, one.budget.hours is None))
    same_cost: dict[str, list[str]] = {}
    for one in stated:
        same_cost.setdefault(budget.cost_of(one), []).append(one.name)
    return {names[0]: tuple(names) for names in same_cost.values()}


def budget_name(name: str) -> str:
    """Return the name of the record of a recipe's budget."""
    return f"gpu-budget-{name}"


def measure_budget(context: Context, names: tuple[str, ...]) -> Iterator[DeviceFigures]:
    """Measure the first recipe's step, and project from it the hours of each recipe's pretraining on this one GPU.

    If training itself, loader included, was measured on the recipe, the hours come from that, and no step is measured.
    The note of each projection states the measured steps that it is based on, and the source's budget with its
    provenance.
    """
    one = context.scale.recipe(names[0])
    record = _record(context, budget_name(names[0]), one, [])
    measured = _trained(context, names[0])
    if measured is None:
        work = f"{names[0]}, a step of batch {one.batch}"
        figures, trainer, batch = _step(context, one, work)
        seconds = figures[0].median / 1000
        record = record.plus(*figures, *rates.utilization(context.scale, trainer, batch, work, seconds))
        yield record
        measured = budget.measured(record)
        assert measured is not None
    yield record.plus(*(_projected(recipe.load(name), measured) for name in names))


def _projected(one: Recipe[Any], measured: Steps) -> Figure:
    """Return the projected GPU-hours. The source's budget is in the note, never in the samples."""
    source = f"the source: {spent(one.budget)}"
    try:
        whole = budget.projection(one, measured.seconds, measured.idle or 0.0)
    except ValueError as refused:
        return Figure(work=one.name, quantity="projected_gpu_hours", samples=[], note=f"{refused}; {source}")
    origin = "the model alone" if measured.idle is None else "training on JPEGs"
    note = (
        f"{whole.steps:,} steps; {origin}, {whole.seconds:.4g} s a step, the median of {whole.measured} after warm-up, "
        f"from {measured.record}; 95 % interval {whole.low:.4g} to {whole.high:.4g}; {source}"
    )
    return Figure(work=one.name, quantity="projected_gpu_hours", samples=[whole.hours], note=note)


def spent(budget: Budget) -> str:
    """Return a budget in words, without values that are not stated."""
    words = [f"{budget.gpus} x {budget.gpu or 'GPU'}"]
    words += [f"{budget.hours:g} hours"] if budget.hours else []
    words += [f"{budget.memory_gib:g} GiB each"] if budget.memory_gib else []
    return f"{', '.join(words)} ({budget.provenance})"


def _trained(context: Context, name: str) -> Steps | None:
    """Return the steps of training itself, if that was measured on this recipe."""
    path = evidence.path_of(context.folder, rates.NAME)
    return budget.measured(evidence.read(path)) if name == HEADLINE and path.exists() else None


def _step(context: Context, one: Recipe[Any], work: str) -> tuple[list[Figure], Trainer, DeviceBatch]:
    """Return the figures of the recipe's step on a resident batch, its time first, with the trainer and the batch."""
    scale = context.scale
    trainer = scale.trainer(one)
    batch = resident_batch(one, trainer)
    memory, energy = PeakMemory(), Energy(scale.where)
    seconds = stepped(trainer, batch, scale.warmup, steps := scale.steps + SPARE).step_seconds
    joules, views = energy.joules, one.batch * len(trainer.method.views)
    figures = [
        Figure(work=work, quantity="step_time", samples=[1000 * second for second in seconds]),
        Figure(work=work, quantity="step_rate", samples=[views / statistics.median(seconds)]),
        *peaks(memory, work),
    ]
    if joules is not None:
        a_view = joules / (views * (scale.warmup + steps))
        figures.append(Figure(work=work, quantity="energy_per_view", samples=[a_view]))
    return figures, trainer, batch
