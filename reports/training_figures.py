"""Plots of training runs: accuracy over time, rates, shares of the time, memory, and a comparison of kernels.

Each plot is about one dataset and machine, and is omitted if the records lack its data.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, product
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from scipy.stats import t as student

from twoview.bench.config.recipe import ABOUT
from twoview.bench.evidence import DeviceFigures, Run
from twoview.reports.figures import ACCENT, INK, QUIET, SECOND, STYLE, Plot, canvas, svg
from twoview.reports.leaderboard import Shown, recipe_hash
from twoview.reports.significance import TARGETS, course

LEVEL = 0.95  # confidence level of the band around an accuracy
LINES = [(color, style) for style, color in product(("-", "--", ":"), (ACCENT, SECOND, INK, QUIET))]
KERNELS = {2.0: "Gaussian", 1.0: "Laplacian"}  # gamma -> name of the kernel exp(-d^gamma / T); others: exponential
# Value of the loss setting -> the name in the plot.
MIXTURES = {"sum": "Simple Sum", "sum-kernel": "sum of kernels", "concat": "Concatenation Sum", "spectral": "spectral"}


def training_plots(runs: Sequence[Run], summary: pd.DataFrame, devices: Sequence[DeviceFigures]) -> list[Plot]:
    """Return all plots of training runs.

    runs: only runs of trained encoders are drawn. summary: the leaderboard over seeds. devices: records of the GPU
    suite.
    """
    trained = [run for run in runs if run.subject == "trained" and run.training]
    groups = [(f"{dataset}. {machine}.", rows) for (dataset, machine), rows in summary.groupby(["dataset", "machine"])]
    return [
        *_courses(trained),
        *_device_courses(devices),
        *(plot for where, rows in groups for plot in _of_rows(where, rows)),
        *_shares(trained),
        *_kernels(trained),
        *_batches(trained, devices),
    ]


def _courses(runs: Iterable[Run]) -> Iterator[Plot]:
    """Yield plots of accuracy over training time, with a line for each recipe.

    A line is the mean over seeds; with two seeds or more, a band shows Student's interval of the mean.
    """
    for (dataset, machine), group in _grouped(runs, _place):
        recipes = [
            (f"{method}: {name}", curves)
            for (method, name, _), same in _grouped(group, _experiment)
            if (curves := [curve for run in same if (curve := course(run))])
        ]
        if not recipes:
            continue
        caption = f"kNN top-1 on training images of {dataset}, percent, over minutes of training: the mean over"
        caption += " seeds and its 95 % interval"
        caption += "; the dotted line is the target, which twoview chose" if dataset in TARGETS else ""
        caption += f". {machine}."
        with matplotlib.rc_context(STYLE):
            figure, axes = canvas(3 + 0.4 * len(recipes))
            for (name, curves), (color, style) in zip(recipes, cycle(LINES), strict=False):
                length = min(map(len, curves))  # seeds may have been evaluated a different number of times
                points = np.array([curve[:length] for curve in curves])
                minutes, accuracy = points.mean(0).T / [[60], [1]]
                axes.plot(minutes, accuracy, color=color, ls=style, lw=1.4, marker="o", ms=3, label=name)
                if len(curves) > 1:
                    error = points[:, :, 1].std(0, ddof=1) / np.sqrt(len(curves))
                    reach = student.ppf((1 + LEVEL) / 2, len(curves) - 1) * error
                    axes.fill_between(minutes, accuracy - reach, accuracy + reach, color=color, alpha=0.18, lw=0)
            if dataset in TARGETS:
                axes.axhline(TARGETS[dataset], color=QUIET, ls=":", lw=0.8)
            axes.set_xlabel("minutes")
            axes.set_ylabel("kNN top-1 (%)")
            figure.legend(loc="outside upper right", ncols=1)
            yield Plot(caption, svg(figure, caption))


def _device_courses(records: Iterable[DeviceFigures]) -> Iterator[Plot]:
    """Yield plots of accuracy over time for the GPU suite's training run: the latest per machine, so no interval."""
    latest = {(record.environment.machine, record.name): record for record in sorted(records, key=lambda r: r.created)}
    for (machine, _), record in sorted(latest.items()):
        found = {figure.quantity: figure for figure in record.figures}
        if not {"knn_accuracy", "judged_epochs", "elapsed_time"} <= found.keys():
            continue
        knn, epochs = found["knn_accuracy"], found["judged_epochs"].samples
        seconds = 0.0, *found["elapsed_time"].samples
        if len(epochs) != len(knn.samples) or not all(epoch in range(len(seconds)) for epoch in epochs):
            continue
        minutes = [seconds[int(epoch)] / 60 for epoch in epochs]
        caption = f"kNN top-1 of {knn.work}, percent, over minutes of training: one run. {machine}."
        with matplotlib.rc_context(STYLE):
            figure, axes = canvas(3)
            axes.plot(minutes, knn.samples, color=ACCENT, lw=1.4, marker="o", ms=3)
            axes.set_xlabel("minutes")
            axes.set_ylabel("kNN top-1 (%)")
            axes.grid(axis="y", color=QUIET, alpha=0.3, lw=0.6)
            yield Plot(caption, svg(figure, caption))


def _of_rows(where: str, rows: pd.DataFrame) -> Iterator[Plot]:
    """Yield the plots of rates with their ceilings, and of memory, from the rows of a summary."""
    held = rows[rows["loader_views_per_s"].notna() & rows["views_per_s"].notna()]
    if len(held):
        caption = f"Views/s: training, the loader alone and the model alone, on {where}"
        yield _by_row(held, caption, "views/s", _ceilings)
    weighed = rows[rows["peak_memory_mib"].notna()]
    if len(weighed):
        yield _by_row(weighed, f"Peak memory on {where}", "MiB", _memory)


def _ceilings(axes: Axes, rows: pd.DataFrame, heights: np.ndarray) -> None:
    """Draw for each row the rate of training and its two ceilings, the rates of the loader and of the model alone."""
    axes.scatter(rows["loader_views_per_s"], heights, marker="|", s=260, color=SECOND, label="loader alone")
    axes.scatter(rows["model_views_per_s"], heights, s=60, facecolor="none", edgecolor=INK, label="model alone")
    axes.scatter(rows["views_per_s"], heights, s=30, color=ACCENT, label="training")
    axes.set_xscale("log")  # a loader may be a hundred times as fast as its model
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_locator(NullLocator())


def _memory(axes: Axes, rows: pd.DataFrame, heights: np.ndarray) -> None:
    """Draw a bar of peak host memory for each row, and one of peak device memory if any row has it."""
    offset = 0.15 if rows["peak_device_mib"].notna().any() else 0.0
    axes.barh(heights + offset, rows["peak_memory_mib"], height=0.3, color=ACCENT, label="host")
    if offset:
        axes.barh(heights - offset, rows["peak_device_mib"], height=0.3, color=SECOND, label="device")


def _shares(runs: Iterable[Run]) -> Iterator[Plot]:
    """Yield plots of the shares of training time: steps, waiting for a batch, and the rest, means over seeds."""
    clocked = [run for run in runs if run.training and run.training.step_seconds]
    for (dataset, machine), group in _grouped(clocked, _place):
        rows = []
        for _, same in _grouped(group, _experiment):
            shown = Shown.model_validate(same[0].recipe)
            parts = np.mean([_parts(run) for run in same], axis=0)
            row = {"method": shown.method.name, "recipe": shown.name}
            rows.append(row | dict(zip(("steps", "waiting", "else"), parts, strict=True)))
        caption = f"Shares of the training time on {dataset}, in percent. {machine}."
        yield _by_row(pd.DataFrame(rows), caption, "percent", _stacked)


def _parts(run: Run) -> tuple[float, float, float]:
    """Return the percentages of the training time spent in steps, in waiting for batches, and in everything else."""
    training: Any = run.training
    whole = training.seconds
    steps, waiting = 100 * sum(training.step_seconds) / whole, 100 * sum(training.wait_seconds) / whole
    return steps, waiting, max(0.0, 100 - steps - waiting)


def _stacked(axes: Axes, rows: pd.DataFrame, heights: np.ndarray) -> None:
    """Draw the shares of time as a stacked bar for each row."""
    left = np.zeros(len(rows))
    for part, color, label in (("steps", ACCENT, "steps"), ("waiting", SECOND, "waiting"), ("else", QUIET, "other")):
        axes.barh(heights, rows[part], left=left, height=0.5, color=color, label=label)
        left += rows[part].to_numpy()


def _kernels(runs: Iterable[Run]) -> Iterator[Plot]:
    """Yield plots that compare Tan et al.'s kernels on the same work. SimCLR is among them, as the Gaussian kernel."""
    kernels = [run for run in runs if _method(run)["name"] in ("kernel-infonce", "simclr")]
    for (dataset, machine, _), group in _grouped(kernels, _all_but_method):
        rows = [
            {"kernel": kernel, "seeds": len(same)}
            | {probe: [getattr(run.accuracy, f"{probe}_top1") for run in same] for probe in ("knn", "linear")}
            for (kernel,), same in _grouped(group, lambda run: (_kernel(_method(run)),))
        ]
        if len(rows) < 2 or not any(_method(run)["name"] == "kernel-infonce" for run in group):
            continue
        caption = f"Kernels on {dataset}, {_words(group[0])}: top-1 in percent, mean and range over seeds. {machine}."
        with matplotlib.rc_context(STYLE):
            figure, axes = canvas(0.8 * len(rows) + 0.6)
            for shift, probe, color, label in ((0.12, "knn", ACCENT, "kNN"), (-0.12, "linear", SECOND, "linear")):
                mean = np.array([np.mean(row[probe]) for row in rows])
                reach = [mean - [min(row[probe]) for row in rows], [max(row[probe]) for row in rows] - mean]
                heights = np.arange(len(rows))[::-1] + shift
                axes.errorbar(mean, heights, xerr=reach, fmt="o", ms=6, color=color, capsize=3, label=label)
            axes.set_yticks(np.arange(len(rows))[::-1], [row["kernel"] for row in rows])
            axes.set_ylim(-0.6, len(rows) - 0.4)
            axes.grid(axis="x", color=QUIET, alpha=0.3, lw=0.6)
            figure.legend(loc="outside upper right", ncols=2)
            yield Plot(caption, svg(figure, caption))


def _kernel(method: dict[str, Any]) -> str:
    """Return the name of a method's kernel exp(-d^gamma / T). SimCLR at temperature t has gamma = 2 and T = 2 t."""
    temperature, gamma = (_number(method, key, otherwise) for key, otherwise in (("temperature", 0.5), ("gamma", 2.0)))
    if method["name"] == "simclr":
        return f"Gaussian (SimCLR)\nT = {2 * temperature:g}"
    words = MIXTURES.get(str(method.get("loss", "kernel"))) or KERNELS.get(gamma, f"exponential, gamma = {gamma:g}")
    return f"{words}\nT = {temperature:g}"


def _number(table: dict[str, Any], key: str, otherwise: float) -> float:
    """Return a number from a recipe's table, or `otherwise` if the key is missing, or NaN if it is not a number."""
    value = table.get(key, otherwise)
    return float(value) if isinstance(value, int | float) else math.nan


def _batches(runs: Iterable[Run], devices: Iterable[DeviceFigures]) -> Iterator[Plot]:
    """Yield plots of the training rate by batch size, for workloads measured at several batch sizes."""
    rates: dict[tuple[Any, ...], dict[int, list[float]]] = {}
    for run in runs:
        if run.training:
            key = _key(run.recipe, run.training.precision, run.training.device, run.environment.machine)
            rates.setdefault(key, {}).setdefault(Shown.model_validate(run.recipe).batch, []).append(
                run.training.views_per_s
            )
    for record in devices:
        real = [
            one for figure in record.figures if figure.quantity == "training_rate" for one in figure.samples if one > 0
        ]
        if real and record.recipe:
            precision = str(record.recipe.get("precision", "auto"))
            key = _key(record.recipe, precision, record.device, record.environment.machine)
            rates.setdefault(key, {}).setdefault(Shown.model_validate(record.recipe).batch, []).extend(real)
    for (*work, machine), by_batch in sorted(rates.items()):
        if len(by_batch) < 2:
            continue
        caption = f"Training rate by batch size, median and range: {', '.join(map(str, work))}. {machine}."
        batches = sorted(by_batch)
        median = np.array([np.median(by_batch[batch]) for batch in batches])
        reach = [median - [min(by_batch[b]) for b in batches], [max(by_batch[b]) for b in batches] - median]
        with matplotlib.rc_context(STYLE):
            figure, axes = canvas(3)
            axes.errorbar(batches, median, yerr=reach, fmt="o-", ms=5, color=ACCENT, capsize=3)
            axes.set_xscale("log", base=2)
            axes.set_xticks(batches, [str(batch) for batch in batches])
            axes.set_ylim(bottom=0)
            axes.set_xlabel("batch size")
            axes.set_ylabel("views/s")
            yield Plot(caption, svg(figure, caption))


def _key(recipe: dict[str, Any], precision: str, device: str, machine: str) -> tuple[Any, ...]:
    """Return a key that is equal for training runs that may differ only in batch size."""
    shown = Shown.model_validate(recipe)
    return shown.method.name, shown.dataset, shown.backbone.name, f"{shown.size} px", precision, device, machine


def _place(run: Run) -> tuple[str, str]:
    """Return the dataset and machine of a run, which are equal for all encoders in a plot."""
    return Shown.model_validate(run.recipe).dataset, run.environment.machine


def _method(run: Run) -> dict[str, Any]:
    """Return the `[method]` table of a run's recipe, with at least its name."""
    return Shown.model_validate(run.recipe).method.model_dump()


def _experiment(run: Run) -> tuple[Any, ...]:
    """Return method, recipe and hash of the recipe, which are equal for runs that differ only in their seed."""
    shown = Shown.model_validate(run.recipe)
    return shown.method.name, shown.name, recipe_hash(run.recipe)


def _all_but_method(run: Run) -> tuple[Any, ...]:
    """Return a key that is equal for runs whose recipes differ only in method and name."""
    rest = {key: value for key, value in run.recipe.items() if key not in ABOUT | {"name", "method"}}
    return *_place(run), recipe_hash(rest)


def _words(run: Run) -> str:
    """Return a run's backbone, size, epochs and batch as text."""
    shown = Shown.model_validate(run.recipe)
    return f"{shown.backbone.name} at {shown.size} px, {shown.epochs} epochs, batch {shown.batch}"


def _grouped(runs: Iterable[Run], key: Callable[[Run], tuple[Any, ...]]) -> list[tuple[tuple[Any, ...], list[Run]]]:
    """Return the runs grouped by key. Groups are sorted by key, and the runs in a group by name."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.name):
        groups.setdefault(key(run), []).append(run)
    return sorted(groups.items(), key=lambda group: group[0])


def _by_row(
    rows: pd.DataFrame, caption: str, unit: str, draw: Callable[[Axes, pd.DataFrame, np.ndarray], None]
) -> Plot:
    """Return a plot in which each row of data has a line.

    unit: the label of the x axis. draw: draws the rows into the axes at the given heights.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(len(rows) + 0.6)
        heights = np.arange(len(rows))[::-1]
        draw(axes, rows, heights)
        labels = [f"{row['method']}\n{row['recipe']}" for _, row in rows.iterrows()]
        axes.set_yticks(heights, labels)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(unit)
        axes.grid(axis="x", color=QUIET, alpha=0.3, lw=0.6)
        figure.legend(loc="outside upper right", ncols=3, handletextpad=0.4, columnspacing=1.0)
        return Plot(caption, svg(figure, caption))
