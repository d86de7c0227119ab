"""How a value is written: its heading and digits, the same on the terminal, on the page and in CSV."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twoview.bench.runtime.escapes import csv_cell, one_line

ABSENT = "\u2013"  # a dash


@dataclass(frozen=True)
class Column:
    """A heading, and the decimals of a number (None: a word). A share is a fraction of 1, shown as a percentage.

    small: of that many digits instead, wherever they begin, since a p of 0.000 says less than one of 3e-05.
    """

    heading: str
    decimals: int | None = None
    share: bool = False
    small: bool = False

    @property
    def numeric(self) -> bool:
        return self.decimals is not None

    def text(self, value: Any) -> str:
        """For a reader: thousands apart, a dash where there is no value."""
        if pd.isna(value) or value == "":
            return ABSENT
        if self.decimals is None:
            return one_line(str(value))
        if value == math.inf:
            return "not reached"
        if self.small:
            return f"{value:.{self.decimals}g}"
        if self.share:
            return f"{100 * value:.{self.decimals}f} %"
        return f"{value:,.{self.decimals}f}"

    def csv(self, value: Any) -> str:
        """For a program: the fraction itself for a share, nothing where there is no value."""
        if pd.isna(value):
            return ""
        if self.decimals is None:
            return str(value)
        if value == math.inf:
            return "Infinity"  # as pandas and a browser read it
        if self.small:
            return f"{value:.{self.decimals}g}"
        return f"{value:.{self.decimals + 2 if self.share else self.decimals}f}"


COLUMNS = {
    "rank": Column("rank", 0),
    "method": Column("method"),
    "dataset": Column("dataset"),
    "backbone": Column("backbone"),
    "resolution": Column("px", 0),
    "epochs": Column("epochs", 0),
    "batch": Column("batch", 0),
    "precision": Column("precision"),
    "loader": Column("loader"),
    "device": Column("device"),
    "machine": Column("machine"),
    "knn_top1": Column("kNN %", 2),
    "linear_top1": Column("linear %", 2),
    "untrained_knn_top1": Column("untrained kNN %", 2),
    "untrained_linear_top1": Column("untrained linear %", 2),
    "pixels_knn_top1": Column("pixels kNN %", 2),
    "pixels_linear_top1": Column("pixels linear %", 2),
    "knn_gain": Column("kNN gain", 2),
    "knn_gain_min": Column("least gain", 2),
    "knn_interval": Column("kNN, 95 % of the mean", 2),
    "linear_interval": Column("linear, 95 % of the mean", 2),
    "knn_top5": Column("kNN top-5 %", 2),
    "knn_top1_low": Column("kNN from %", 2),
    "knn_top1_high": Column("to %", 2),
    "linear_top5": Column("linear top-5 %", 2),
    "linear_top1_low": Column("linear from %", 2),
    "linear_top1_high": Column("to %", 2),
    "views_per_s": Column("views/s", 1),
    "views_per_s_iqr": Column("views/s IQR", 1),
    "seconds_per_epoch": Column("s/epoch", 2),
    "seconds_to_target": Column("s to target", 1),
    "time_p": Column("p, time", 2, small=True),
    "knn_p": Column("p, kNN", 2, small=True),
    "data_wait_share": Column("data wait", 2, share=True),
    "loader_views_per_s": Column("loader alone, views/s", 1),
    "model_views_per_s": Column("model alone, views/s", 1),
    "efficiency": Column("efficiency", 2, share=True),
    "bottleneck": Column("bottleneck"),
    "peak_memory_mib": Column("peak host MiB", 0),
    "peak_device_mib": Column("peak device MiB", 0),
    "train_images": Column("probe train images", 0),
    "test_images": Column("probe test images", 0),
    "seed": Column("seed"),
    "seeds": Column("seeds", 0),
    "recipe": Column("recipe"),
    "recipe_hash": Column("recipe hash"),
    "overridden": Column("overridden"),
    "within_spread": Column("within its spread"),
    "commit": Column("commit"),
    "environment": Column("environment"),
    "date": Column("date"),
    "name": Column("record"),
    "beton": Column("beton"),
    "views": Column("views"),
    "size": Column("px", 0),
    "threads": Column("threads", 0),
    "contestant": Column("loader"),
    "images_per_s": Column("images/s", 1),
    "images_per_s_iqr": Column("IQR", 1),
    "ours_over_it": Column("twoview / it", 2),
    "first_batch_s": Column("first batch s", 2),
    "first_batch_empty_cache_s": Column("first batch, compiling, s", 1),
    "peak_mib": Column("peak MiB", 0),
    "added_mib": Column("of it by the loader", 0),
    "batch_mib": Column("a batch MiB", 1),
    "work": Column("work"),
    "figure": Column("figure"),
    "measured": Column("measured"),
    "required": Column("required"),
    "met": Column("met"),
    "quartiles": Column("quartiles"),
    "target": Column("target"),
    "published": Column("published"),
    "claim": Column("claim"),
    "expected": Column("expected"),
    "verdict": Column("verdict"),
    "comparison": Column("comparison"),
    "paper": Column("the paper's"),
    **{
        f"{probe}_{part}": Column(f"{word} {heading}", decimals)
        for probe, word in (("knn", "kNN"), ("linear", "linear"))
        for part, heading, decimals in (
            ("difference", "points", 2),
            ("low", "low", 2),
            ("high", "high", 2),
            ("verdict", "verdict", None),
        )
    },
    "images_seen": Column("images seen", 0),
    "changes": Column("changes"),
    "training_s": Column("training s", 0),
    **{
        f"{probe}_top1_{statistic}": Column(f"{word} {heading}", 2)
        for probe, word in (("knn", "kNN"), ("linear", "linear"))
        for statistic, heading in (("mean", "% mean"), ("sd", "% sd"))
    },
    "source": Column("source"),
    "row": Column("row"),
    "hardware": Column("on"),
    "published_hours": Column("published hours", 2),
    "published_gpu_hours": Column("published GPU-hours", 1),
    "published_memory_gb": Column("published GB each", 1),
    "provenance": Column("provenance"),
    "measured_steps": Column("measured steps", 0),
    "step_ms": Column("step ms", 1),
    "projected_hours": Column("hours", 2),
    "projected_low": Column("hours, low", 2),
    "projected_high": Column("hours, high", 2),
    "gpu_hours": Column("GPU-hours", 2),
    "gpu_hours_ratio": Column("of published", 3),
    "views_per_s_gpu": Column("views/s each", 1),
    "tflops": Column("TFLOP/s each", 2),
    "mfu": Column("of the ceiling", 1, share=True),
    "kwh": Column("kWh", 3),
    "cost": Column("cost", 2),
    "memory_gib": Column("GiB each", 2),
    "rounds": Column("rounds", 0),
    "images": Column("images", 0),
    "probe": Column("probe"),
    "features": Column("features"),
    "queries": Column("queries", 0),
    "setting": Column("setting"),
    "seconds": Column("s", 2),
    "encoder": Column("encoder"),
    "top1": Column("top-1 %", 2),
    "top1_low": Column("from %", 2),
    "top1_high": Column("to %", 2),
    "spread": Column("sd over splits", 2),
    "top5": Column("top-5 %", 2),
    "mean_class": Column("mean class %", 2),
    "worst_class": Column("worst class %", 2),
    "added": Column("MiB", 0),
    "peer": Column("peer"),
    "peer_seconds": Column("its s", 2),
    "peer_added": Column("its MiB", 0),
    "peer_over_ours": Column("it / twoview"),
    "top1_difference": Column("top-1 above it", 2),
    "effect": Column("measured", 2),
    "effect_low": Column("measured, low", 2),
    "effect_high": Column("measured, high", 2),
    "published_effect": Column("published", 2),
    "p": Column("p", 2, small=True),
    "of": Column("of", 0),
    "statistic": Column("test"),
    "note": Column("note"),
}


def spread(row: pd.Series, accuracy: str) -> str:
    """Mean of an accuracy over seeds, with the sample standard deviation where there is one: `79.10 ± 0.41`."""
    mean, deviation = row[f"{accuracy}_mean"], row[f"{accuracy}_sd"]
    if pd.isna(mean):
        return ABSENT
    return f"{mean:.2f}" if pd.isna(deviation) else f"{mean:.2f} ± {deviation:.2f}"


def bounded(row: pd.Series, name: str) -> str:
    """A difference, or what goes by another name, with its interval where there is one: `+3.50 (-2.85 to +9.85)`."""
    stem = name.removesuffix("_difference")
    mean, low, high = row[name], row[f"{stem}_low"], row[f"{stem}_high"]
    if pd.isna(mean):
        return ABSENT
    return f"{mean:+.2f}" if pd.isna(low) else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def between(row: pd.Series, name: str) -> str:
    """An interval: `38.97 to 44.25`."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return ABSENT if pd.isna(low) else f"{low:.2f} to {high:.2f}"


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV with one header row: percentages with 2 decimals, shares as fractions with 4.

    A text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    cells = {name: [_csv_cell(COLUMNS[name], value) for value in table[name]] for name in table.columns}
    return pd.DataFrame(cells, columns=table.columns).to_csv(index=False, lineterminator="\n")


def _csv_cell(column: Column, value: Any) -> str:
    return csv_cell(column.csv(value)) if isinstance(value, str) else column.csv(value)
