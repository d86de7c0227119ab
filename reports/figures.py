"""Inline SVG plots. The same tables always give the same bytes; the page's stylesheet sets the colors and the font."""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from twoview.bench.evidence import LoaderRates, Run
from twoview.bench.runtime.escapes import on_lines
from twoview.reports.leaderboard import Shown
from twoview.reports.loader_table import TWOVIEW, WORKLOAD, latest

# Plots are drawn with these placeholder colors. `svg` replaces each by a style variable of the page, so that plots
# follow the light and the dark color scheme.
INK, QUIET, ACCENT, SECOND = "#010203", "#010204", "#010205", "#010206"
VARIABLES = {INK: "var(--ink)", QUIET: "var(--quiet)", ACCENT: "var(--accent)", SECOND: "var(--second)"}

STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so labels have the same size everywhere
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}
WIDTH = 4.6  # width of a plot in inches, about the width of a phone's screen
LOSS_POINTS = 200  # maximum number of points in a loss curve; longer curves are averaged in blocks


@dataclass(frozen=True)
class Plot:
    """A plot: an SVG element, and the caption under it."""

    caption: str
    svg: Markup


def accuracy_plots(summary: pd.DataFrame) -> list[Plot]:
    """Return a plot for each dataset, machine and probe: the accuracy of each trained encoder with its range over
    seeds, of the same encoder untrained, and of raw pixels.
    """
    return [
        _accuracy(rows, probe, f"{words} top-1 on {dataset}, percent. {machine}.")
        for (dataset, machine), rows in summary.groupby(["dataset", "machine"])
        for probe, words in (("knn", "kNN"), ("linear", "Linear probe"))
    ]


def difference_plots(imbalance: pd.DataFrame) -> list[Plot]:
    """Return a plot for each dataset, machine and probe: the difference of each comparison with its interval.

    imbalance: the table of comparisons. A mark is filled if the interval does not contain 0.
    """
    return [
        _differences(rows, probe, f"{words}, points of top-1 with their 95 % interval on {dataset}. {machine}.")
        for (dataset, machine), rows in imbalance.groupby(["dataset", "machine"])
        for probe, words in (("knn", "kNN"), ("linear", "Linear probe"))
        if rows[f"{probe}_difference"].notna().any()
    ]


def loader_plots(records: Sequence[LoaderRates], table: pd.DataFrame) -> list[Plot]:
    """Return a plot for the latest record of each workload: a bar for each loader's median, a dot for each round."""
    rounds = {record.name: record.images_per_s for record in sorted(records, key=lambda record: record.created)}
    return [
        _rates(
            rows[rows["images_per_s"].notna()],
            rounds[rows["name"].iloc[0]],
            f"{beton}, {views}, {size} px, batch {batch:g}, {threads} threads: images/s, medians and rounds."
            f" {machine}.",
        )
        for (beton, views, size, batch, threads, machine), rows in latest(table).groupby(WORKLOAD, dropna=False)
        if rows["images_per_s"].notna().any()
    ]


def loss_plots(runs: Sequence[Run]) -> list[Plot]:
    """Return a plot for each dataset and method: the loss over steps, with a line for each run."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.name):
        if run.subject == "trained" and run.training and run.training.losses:
            shown = Shown.model_validate(run.recipe)
            groups.setdefault((shown.dataset, shown.method.name), []).append(run)
    return [_losses(group, f"Loss of {method} on {dataset}.") for (dataset, method), group in sorted(groups.items())]


def _accuracy(rows: pd.DataFrame, probe: str, caption: str) -> Plot:
    """Draw each row of the summary as one line: trained with its range, untrained, raw pixels."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(len(rows) + 0.6)
        heights = np.arange(len(rows))[::-1]
        mean = rows[f"{probe}_top1_mean"]
        reach = [mean - rows[f"{probe}_top1_min"], rows[f"{probe}_top1_max"] - mean]
        axes.scatter(rows[f"pixels_{probe}_top1_mean"], heights, marker="|", s=260, color=SECOND, label="raw pixels")
        axes.scatter(
            rows[f"untrained_{probe}_top1_mean"], heights, s=44, facecolor="none", edgecolor=INK, label="untrained"
        )
        axes.errorbar(mean, heights, xerr=reach, fmt="o", ms=7, color=ACCENT, capsize=3, label="trained")
        labels = [f"{row['method']}\n{row['recipe']}" for _, row in rows.iterrows()]
        axes.set_yticks(heights, labels)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.margins(x=0.12)
        axes.grid(axis="x", color=QUIET, alpha=0.3, lw=0.6)
        figure.legend(loc="outside upper right", ncols=3, handletextpad=0.2, columnspacing=1.0)
        return Plot(caption, svg(figure, caption))


def _differences(rows: pd.DataFrame, probe: str, caption: str) -> Plot:
    """Draw each comparison as one line: its difference and the interval around it."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(0.8 * len(rows))
        axes.axvline(0, color=QUIET, lw=0.8)
        for height, (_, row) in zip(np.arange(len(rows))[::-1], rows.iterrows(), strict=True):
            mean, low, high = (row[f"{probe}_{part}"] for part in ("difference", "low", "high"))
            axes.plot([low, high], [height] * 2, color=ACCENT, lw=1.4)
            face = ACCENT if low > 0 or high < 0 else "none"
            axes.scatter(mean, height, s=44, facecolor=face, edgecolor=ACCENT, zorder=3)
        axes.set_yticks(
            np.arange(len(rows))[::-1], [f"{row['method']}\n{row['comparison']}" for _, row in rows.iterrows()]
        )
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="x", color=QUIET, alpha=0.3, lw=0.6)
        return Plot(caption, svg(figure, caption))


def _rates(rows: pd.DataFrame, rounds: dict[str, list[float]], caption: str) -> Plot:
    """Draw a bar for each loader's median images/s, and a dot for each of its rounds."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(0.7 * len(rows))
        heights = np.arange(len(rows))[::-1]
        colors = [ACCENT if contestant == TWOVIEW else QUIET for contestant in rows["contestant"]]
        axes.barh(heights, rows["images_per_s"], height=0.55, color=colors, alpha=0.75)
        for height, contestant in zip(heights, rows["contestant"], strict=True):
            axes.scatter(rounds[contestant], [height] * len(rounds[contestant]), s=9, color=INK, zorder=3)
        axes.set_yticks(heights, rows["contestant"])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel("images/s")
        return Plot(caption, svg(figure, caption))


def _losses(runs: Sequence[Run], caption: str) -> Plot:
    """Draw the loss of each run over its steps."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(2.6)
        for run in runs:
            assert run.training
            steps, losses = _block_means(run.training.losses)
            axes.plot(steps, losses, color=ACCENT, alpha=0.7, lw=1.2)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.grid(axis="y", color=QUIET, alpha=0.3, lw=0.6)
        words = f"{caption.removesuffix('.')}, one line per run: {', '.join(run.name for run in runs)}."
        return Plot(words, svg(figure, words))


def _block_means(losses: list[float]) -> tuple[list[float], list[float]]:
    """Return steps and losses averaged over blocks of steps, so that a curve has at most LOSS_POINTS points."""
    blocks = np.array_split(np.arange(len(losses)), min(len(losses), LOSS_POINTS))
    values = np.asarray(losses)
    return [float(block.mean()) + 1 for block in blocks], [float(values[block].mean()) for block in blocks]


def canvas(rows: float) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes and a height for that number of rows."""
    figure = Figure(figsize=(WIDTH, 0.8 + 0.55 * rows), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, title: str) -> Markup:
    """Return the figure as an SVG element that scales with its column on the page.

    title: makes the ids within the element unique, since a page must not repeat an id.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title}), warnings.catch_warnings():
        # A browser can show letters that this font lacks, and names may be wider than the plot: neither needs a
        # warning.
        warnings.filterwarnings("ignore", "Glyph |constrained_layout not applied", UserWarning)
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"])
        )
    text = on_lines(buffer.getvalue())
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    # Matplotlib's style element would apply to the whole page. The page's own stylesheet has the same rules.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", text)  # ids such as axes_1 occur in every figure
    for color, variable in VARIABLES.items():
        text = text.replace(color, variable)
    return Markup(_lean(text))


def _lean(text: str) -> str:
    """Return a smaller SVG: coordinates are rounded down to a hundredth of a point, and the common style of the points
    of a scatter plot is written once.
    """
    text = re.sub(r' (?:x|y|d)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    text = re.sub(r"\s*\n\s*", "\n", text)
    return re.sub(r"(<g clip-path=[^>]*)>((?:\s*<use [^>]*/>)+)\s*</g>", _cloud, text)


def _cloud(found: re.Match[str]) -> str:
    """Return a group of points, with the style on the group if all points have the same style."""
    styles = set(re.findall(r' style="[^"]*"', found[2]))
    if len(styles) > 1:
        return found[0]
    style = "".join(styles)
    points = re.sub(r"\s*(<use )", r"\1", found[2].replace(style, ""))
    return f"{found[1]}{style}>{points}</g>"
