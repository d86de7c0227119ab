"""Plots of encoders' representations side by side: t-SNE, and how often and how sparsely each layer fires."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from twoview.bench.evaluation.representations import Options, Representation, as_result
from twoview.loaders.files import whole_file

SIDE = 3.4  # side of one panel in inches
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "twoview", "font.size": 9, "text.parse_math": False}
NAMED = 20  # maximum number of classes in a legend
# Quantity of a layer -> title of its panel.
LAYERS = {
    "firing_rate": "firing rate: share of images with mean > 0",
    "positive": "share of values above 0",
    "sparseness": "population sparseness (Treves and Rolls)",
}


def plot(ones: Sequence[Representation], options: Options, folder: Path) -> list[Path]:
    """Write FOLDER/tsne.svg, with a panel per encoder, and FOLDER/firing.svg, with a line per encoder over its layers.

    Returns the paths of both.
    """
    with matplotlib.rc_context(STYLE):
        return [_save(_tsne(ones), folder / "tsne.svg"), _save(_firing(ones, options), folder / "firing.svg")]


def _tsne(ones: Sequence[Representation]) -> Figure:
    """Draw the t-SNE embedding of each encoder, colored by class, with silhouette and kNN accuracy in its title.

    Without labels the points have one color, and the title says so.
    """
    figure = Figure((SIDE * len(ones), SIDE + 0.8), layout="constrained")
    for number, one in enumerate(ones, 1):
        axes = figure.add_subplot(1, len(ones), number)
        colors = matplotlib.colormaps["tab10" if len(one.classes) <= 10 else "hsv"]
        if not one.classes:
            axes.scatter(one.points[:, 0], one.points[:, 1], s=4, lw=0, color=colors(0))
        for c, name in enumerate(one.classes):
            x, y = one.points[one.label == c].T
            axes.scatter(
                x, y, s=4, lw=0, color=colors(c if len(one.classes) <= 10 else c / len(one.classes)), label=name
            )
        numbers = one.of_representation
        measured = f"silhouette {numbers.silhouette:.3f}, kNN {numbers.knn:.1f} %" if numbers else "without labels"
        axes.set_title(f"{one.encoder.name}\n{measured}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    if len({one.classes for one in ones}) == 1 and 0 < len(ones[0].classes) <= NAMED:
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, markerscale=3)
    return figure


def _firing(ones: Sequence[Representation], options: Options) -> Figure:
    """Draw the quantities in `LAYERS` over the layers of each encoder."""
    figure = Figure((SIDE * len(LAYERS), SIDE + 0.4), layout="constrained")
    for number, (key, words) in enumerate(LAYERS.items(), 1):
        axes = figure.add_subplot(1, len(LAYERS), number)
        for one in ones:
            values = [layer[key] for layer in as_result(one, options)["layers"]]
            axes.plot(range(1, len(values) + 1), values, marker="o", ms=4, label=one.encoder.name)
        axes.set_title(words, fontsize=9)
        axes.set_xlabel("ReLU, in the order of computation")
        axes.set_ylim(0, 1.02)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def _save(figure: Figure, path: Path) -> Path:
    """Write a figure as SVG, without the date, so that equal figures give equal files."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    return path
