"""The chart on README's first screen: twoview's loader compared with other libraries' loaders, for light and dark
pages.
"""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from twoview.bench.evidence import LoaderRates
from twoview.reports.loader_table import TWOVIEW

# Colors of text, other libraries' bars and twoview's bar that suit GitHub's light and dark pages.
SCHEMES: Mapping[str, tuple[str, str, str]] = {
    "light": ("#1f2328", "#afb8c1", "#0969da"),
    "dark": ("#f0f6fc", "#59636e", "#4493f8"),
}
NAMES = {
    "twoview": "twoview",
    "ffcv": "FFCV (crops and flips only)",
    "lightly": "lightly",
    "torchvision": "torchvision DataLoader",
    "kornia": "Kornia",
    "spdl": "SPDL",
}


def loader_chart(record: LoaderRates, scheme: str) -> str:
    """Return the chart as SVG: a bar for each loader's median images/s, with its range over rounds and twoview's
    speedup.

    The speedup is the median over rounds of twoview's rate divided by the other loader's. The same record always gives
    the same bytes. scheme: "light" or "dark". Loaders that are not in `NAMES` are omitted.
    """
    ink, quiet, accent = SCHEMES[scheme]
    rates = {name: np.array(record.images_per_s[name]) for name in NAMES if name in record.images_per_s}
    order = sorted(rates, key=lambda name: np.median(rates[name]))
    middles = [float(np.median(rates[name])) for name in order]
    reach = [[middle - rates[name].min() for name, middle in zip(order, middles, strict=True)]]
    reach += [[rates[name].max() - middle for name, middle in zip(order, middles, strict=True)]]
    # Text stays text, so the page's font is used.
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": scheme, "font.family": "sans-serif", "font.size": 11}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), ink)
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        colors = [accent if name == TWOVIEW else quiet for name in order]
        axes.barh(range(len(order)), middles, xerr=reach, height=0.62, color=colors, ecolor=ink)
        for height, (name, middle) in enumerate(zip(order, middles, strict=True)):
            times = np.median(rates[TWOVIEW] / rates[name])
            faster = "" if name == TWOVIEW else f"   (twoview is {times:.1f} times as fast)"
            axes.text(rates[name].max() + 15, height, f"{middle:,.0f}{faster}", va="center")
        axes.set_yticks(range(len(order)), [NAMES[name] for name in order])
        axes.set_xlabel("images/s: median over rounds, with their range")
        axes.set_xlim(0, 1.12 * max(each.max() for each in rates.values()))
        axes.tick_params(length=0)
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        axes.set_xticks([])
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"])
        )
    return buffer.getvalue()
