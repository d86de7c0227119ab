"""The plot of a hyperparameter search: accuracy against the value of each searched hyperparameter."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from twoview.bench.config.search_space import Search, scale
from twoview.loaders.files import whole_file

WIDTH, HEIGHT = 3.2, 2.8  # size of one panel in inches
COLUMNS = 3  # maximum number of panels side by side
INK, QUIET, ACCENT = "#222222", "#9a9a9a", "#c2410c"
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "twoview", "font.size": 9, "text.parse_math": False}


def plot(outcome: dict[str, Any], search: Search, path: Path) -> Path:
    """Write an SVG with a panel for each searched key: held-out kNN top-1 against the value of each trial.

    outcome: the result of the search, from `outcome` in `bench/training/search.py`. search: the searched ranges.
    path: the file to write, which is returned. A pruned trial is a hollow mark at the last accuracy that it reached.
    """
    keys = list(search.ranges)
    rows = -(-len(keys) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH * min(COLUMNS, len(keys)), HEIGHT * rows), layout="constrained")
        for number, key in enumerate(keys, 1):
            axes = figure.add_subplot(rows, min(COLUMNS, len(keys)), number)
            kind = scale(search.ranges[key])
            for state, color, fill in (("pruned", QUIET, "none"), ("complete", INK, INK)):
                groups = [group for group in outcome["groups"] if group["state"] == state and group["top1"] is not None]
                places = [_place(group["values"][key], search, key) for group in groups]
                axes.scatter(
                    places, [group["top1"] for group in groups], s=14, edgecolors=color, facecolors=fill, label=state
                )
            if best := outcome["best"]:
                axes.scatter(
                    [_place(best["values"][key], search, key)], [best["top1"]], s=60, marker="*", c=ACCENT, label="best"
                )
            if kind is None:
                axes.set_xticks(range(len(search.ranges[key])), [str(choice) for choice in search.ranges[key]])
                axes.set_xlim(-0.5, len(search.ranges[key]) - 0.5)
            else:
                axes.set_xscale(kind)
                axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel(key)
            axes.spines[["top", "right"]].set_visible(False)
            if number % COLUMNS == 1 or len(keys) == 1:
                axes.set_ylabel("kNN top-1, held out, percent")
        figure.axes[0].legend(frameon=False, fontsize=8)
        with whole_file(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
    return path


def _place(value: Any, search: Search, key: str) -> float:
    """Return a value's position on its axis: the number itself, or the index of a choice in its list."""
    choices = search.ranges[key]
    return float(value) if scale(choices) else float(choices.index(value))
