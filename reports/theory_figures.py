"""Plots of the data behind a claim of the theory papers: lines, points by class, and grids over two parameters."""

import math
from collections.abc import Iterable, Mapping
from itertools import cycle, product
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure

from twoview.bench.evidence import Claimed, Phase, Scatter
from twoview.bench.evidence.claims import OVER
from twoview.reports.figures import ACCENT, INK, QUIET, SECOND, STYLE, WIDTH, Plot, canvas, svg

COLORS = (ACCENT, SECOND, INK, QUIET)
LINES = [(color, style) for style, color in product(("-", "--", ":"), COLORS)]
MARKS = [(color, mark) for mark, color in product(("o", "^", "s"), COLORS)]
WIDE = 20.0  # an x axis is logarithmic if its values span more than this factor
MARKED = 30  # a line with at most this many points has a marker at each
A_ROW = 2  # number of panels side by side
POINTS = 100  # maximum number of points in a scatter panel
TITLE = 24  # maximum number of characters in a line of a panel's title
SHADES = ListedColormap([(*to_rgb(ACCENT), share) for share in np.linspace(0.03, 0.5, 24)])  # text stays legible


def plots(claim: Claimed, salt: str) -> list[Plot]:
    """Return the plots of a claim: one for its lines, one for its scatter panels and one for its phase panels.

    A plot without data is omitted. salt: makes the ids within the SVG elements unique on the page.
    """
    with matplotlib.rc_context(STYLE):
        drawn = []
        if claim.figure:
            drawn.append(_lines(claim.figure))
        if claim.scatter:
            drawn.append(_scatters(claim.scatter))
        if claim.phase:
            drawn.append(_phases(claim.phase))
        return [
            Plot(f"{claim.name}: {words}.", svg(figure, f"{salt} {claim.name} {number}"))
            for number, (figure, words) in enumerate(drawn)
        ]


def _lines(figures: Mapping[str, list[float]]) -> tuple[Figure, str]:
    """Draw every series as a line over the series whose name begins with "over", or else over the index.

    Returns the figure, and the names of the series for the caption.
    """
    over = next((name for name in figures if name.startswith(OVER)), None)
    series = {name: values for name, values in figures.items() if name != over}
    figure, axes = canvas(2.6 + 0.4 * len(series))
    for (name, values), (color, style) in zip(series.items(), cycle(LINES), strict=False):
        x = np.asarray(figures[over] if over else range(len(values)))
        mark = "o" if len(values) <= MARKED else None
        axes.plot(x, values, color=color, ls=style, lw=1.2, marker=mark, ms=4, label=name)
    if over:
        axes.set_xlabel(over.removeprefix(OVER), fontsize=8)
        if x.min() > 0 and x.max() > WIDE * x.min():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # plain text, where the default is formulas
    axes.grid(axis="y", color=QUIET, alpha=0.3, lw=0.6)
    figure.legend(loc="outside upper left", handlelength=2.5, fontsize=8)
    return figure, ", ".join(series)


def _scatters(panels: Mapping[str, Scatter]) -> tuple[Figure, str]:
    """Draw a panel of points for each scatter, with colors and markers by label, and return the figure with a caption.

    At most POINTS points are shown: every n-th, for the smallest sufficient n.
    """
    figure, grid = _grid(panels)
    for axes, points in zip(grid, panels.values(), strict=True):
        every = math.ceil(len(points.x) / POINTS)
        label = np.asarray(points.label)[::every]
        for one, (color, mark) in zip(np.unique(label), cycle(MARKS), strict=False):
            x, y = (np.asarray(values)[::every][label == one] for values in (points.x, points.y))
            axes.scatter(x, y, s=7, color=color, marker=mark, linewidths=0, alpha=0.8)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
    return figure, f"points marked by their class; {'; '.join(panels)}"


def _phases(panels: Mapping[str, Phase]) -> tuple[Figure, str]:
    """Draw a grid of shaded cells for each phase diagram, and return the figure with a caption.

    All grids have one color scale, from the smallest to the largest value; a missing value has no shade.
    """
    figure, grid = _grid(panels)
    values = np.concatenate([np.ravel(phase.value) for phase in panels.values()])
    values = values[~np.isnan(values)]
    low, high = (values.min(), values.max()) if values.size else (math.nan, math.nan)
    for axes, phase in zip(grid, panels.values(), strict=True):
        value = np.ma.masked_array(phase.value, np.isnan(phase.value))
        shown = axes.pcolormesh(value, cmap=SHADES, norm=Normalize(low, high), edgecolors="none")
        for row, column in np.argwhere(~value.mask):
            axes.text(column + 0.5, row + 0.5, f"{value[row, column]:.2g}", ha="center", va="center", fontsize=7)
        axes.set_xticks(np.arange(len(phase.x)) + 0.5, [f"{x:.3g}" for x in phase.x], fontsize=8)
        axes.set_yticks(np.arange(len(phase.y)) + 0.5, [f"{y:.3g}" for y in phase.y], fontsize=8)
        axes.set_xlabel(phase.x_name, fontsize=8)
        axes.set_ylabel(phase.y_name, fontsize=8)
    scale = figure.colorbar(shown, ax=grid, location="bottom", aspect=40, shrink=0.6, ticks=[low, high], format="%.2g")
    scale.ax.tick_params(labelsize=8)
    axis = next(iter(panels.values()))
    return figure, f"{'; '.join(panels)}; over {axis.x_name} and {axis.y_name}, from {low:.2g} to {high:.2g}"


def _grid(panels: Iterable[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, one per title, with A_ROW panels side by side."""
    titles = list(panels)
    rows = math.ceil(len(titles) / A_ROW)
    figure = Figure(figsize=(WIDTH, 0.6 + 2.0 * rows), layout="constrained")
    grid = list(figure.subplots(rows, A_ROW, squeeze=False).flat)
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(fill(title, TITLE), fontsize=9)
    for empty in grid[len(titles) :]:
        empty.remove()
    return figure, grid[: len(titles)]
