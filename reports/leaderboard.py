"""The leaderboard of runs: one row per trained encoder, including its baselines.

Accuracies are top-1 in percent; shares and efficiency are fractions of 1. A cell without a measurement is NaN or empty.
`seconds_to_target` is the time to the dataset's target in `significance.TARGETS`, and infinite if it was never reached.
"""

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy import stats

from twoview.bench.config.recipe import uses_labels
from twoview.bench.config.views import in_words
from twoview.bench.evidence.records import Count, PositiveCount, Run, Training, Word
from twoview.bench.measurement.environment import Environment
from twoview.reports.cells import Column
from twoview.reports.significance import LEVEL, TARGETS, course, seconds_to
from twoview.reports.table import frame_of


class Estimate(Column):
    """An accuracy with its interval over test images, if the record has one: `79.25 (78.40 to 80.10)`."""

    @property
    def fields(self) -> tuple[str, ...]:
        return self.name, f"{self.name}_low", f"{self.name}_high"

    def text(self, row: pd.Series) -> str:
        accuracy, low, high = (row[field] for field in self.fields)
        plain = self.written(accuracy)
        return plain if pd.isna(low) else f"{plain} ({low:.2f} to {high:.2f})"


# The columns of the table, in the order of the CSV. kNN and linear top-1 are listed twice: as plain numbers for the
# terminal, and as `Estimate` with their intervals for the page.
COLUMNS = [
    Column("rank", "rank", 0, page=3, terminal=1),
    Column("method", "method", page=1, terminal=2),
    Column("uses_labels", "uses labels"),
    Column("dataset", "dataset", page=2, terminal=3),
    Column("backbone", "backbone", page=24, terminal=16),
    Column("resolution", "size (px)", 0, page=25),
    Column("views", "views", page=26),
    Column("epochs", "epochs", 0, page=27, terminal=17),
    Column("batch", "batch", 0, page=28),
    Column("precision", "precision", page=29),
    Column("loader", "loader", page=30),
    Column("device", "device", page=31),
    Column("machine", "machine"),
    Column("knn_top1", "kNN top-1 (%)", 2, terminal=4),
    Column("linear_top1", "linear top-1 (%)", 2, terminal=6),
    Column("untrained_knn_top1", "kNN on untrained encoder (%)", 2, page=7, terminal=13),
    Column("untrained_linear_top1", "linear on untrained encoder (%)", 2, page=8),
    Column("pixels_knn_top1", "kNN on raw pixels (%)", 2, page=9, terminal=12),
    Column("pixels_linear_top1", "linear on raw pixels (%)", 2, page=10),
    Column("knn_gain", "kNN gain over untrained (points)", 2, page=6, terminal=5),
    Column("linear_gain", "linear gain over untrained (points)", 2, page=41),
    Column("knn_top5", "kNN top-5 (%)", 2),
    Column("knn_top1_low", "kNN 95 % CI low", 2),
    Column("knn_top1_high", "kNN 95 % CI high", 2),
    Column("knn10_top1", "kNN top-1 at k = 10 (%)", 2, page=37),
    Column("knn_rule", "kNN settings", page=38),
    Column("linear_top5", "linear top-5 (%)", 2),
    Column("linear_top1_low", "linear 95 % CI low", 2),
    Column("linear_top1_high", "linear 95 % CI high", 2),
    Column("training_s", "training time (s)", 0, page=40),
    Column("views_per_s", "views/s", 1, page=11, terminal=8),
    Column("views_per_s_iqr", "views/s IQR", 1, page=12),
    Column("seconds_per_epoch", "epoch time (s)", 2, page=13, terminal=9),
    Column("seconds_to_target", "time to kNN target (s)", 1, page=14),
    Column("data_wait_share", "time waiting for data", 2, share=True, page=15, terminal=15),
    Column("loader_views_per_s", "loader alone (views/s)", 1, page=16),
    Column("model_views_per_s", "model alone (views/s)", 1, page=17),
    Column("efficiency", "efficiency (of the slower ceiling)", 2, share=True, page=18, terminal=10),
    Column("bottleneck", "bottleneck", page=19, terminal=14),
    Column("peak_memory_mib", "peak host memory (MiB)", 0, page=20, terminal=11),
    Column("peak_device_mib", "peak device memory (MiB)", 0, page=21),
    Column("train_images", "probe train images", 0),
    Column("test_images", "probe test images", 0),
    Column("seed", "seed", page=32, terminal=7),
    Column("recipe", "recipe"),
    Column("recipe_hash", "recipe hash"),
    Column("overridden", "overridden settings"),
    Column("commit", "commit", page=33),
    Column("environment", "environment", page=34),
    Column("date", "date", page=35),
    Column("name", "record", page=36),
    Column("published", "published", page=22),
    Column("published_knn", "published kNN settings", page=39),
    Column("within_spread", "within published spread", page=23),
    Estimate("knn_top1", "kNN top-1 (%)", 2, page=4),
    Estimate("linear_top1", "linear top-1 (%)", 2, page=5),
]
# The columns that hold speed and memory, NaN for a run that was not timed.
SPEEDS = [
    "training_s",
    "views_per_s",
    "views_per_s_iqr",
    "seconds_per_epoch",
    "data_wait_share",
    "loader_views_per_s",
    "model_views_per_s",
    "efficiency",
    "peak_memory_mib",
    "peak_device_mib",
]
# Settings of a recipe that affect its speed or monitoring but not the trained encoder.
HARMLESS = ["seed", "precision", "compile", "cuda_graph", "deterministic", "loader_threads", "resident"]
HARMLESS += ["checkpoint_steps", "damaged", "probe.online", "probe.online_knn_epochs", "probe.online_knn_images"]


class Named(BaseModel):
    """A recipe's method or backbone: its name, and other parameters that a row does not show."""

    model_config = ConfigDict(extra="allow")

    name: Word


class Neighbors(BaseModel):
    """The kNN settings in a recipe's `[probe]` table: number of neighbors, and temperature of their weights."""

    model_config = ConfigDict(extra="allow")

    k: PositiveCount | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None

    @property
    def rule(self) -> str:
        """The kNN settings in words; empty if the record does not state them."""
        return f"k = {self.k}, cosine, weighted at {self.temperature:g}" if self.k and self.temperature else ""


class Shown(BaseModel):
    """The part of a recipe that a row shows. `size` is the side of a view in pixels."""

    name: Word
    dataset: Word
    size: PositiveCount
    views: Word = ""
    method: Named
    backbone: Named
    epochs: Count
    batch: Count
    probe: Neighbors = Neighbors()

    @field_validator("views", mode="before")
    @classmethod
    def _in_words(cls, value: Any) -> Any:
        """Accept a table of changes to a preset."""
        return in_words(value)

    @field_validator("method", "backbone", mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        """Accept a plain name where a table with a name is expected."""
        return {"name": value} if isinstance(value, str) else value


def leaderboard(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per trained encoder, ranked by kNN top-1 within its dataset and machine; ties share a rank.

    A row's untrained baseline has the same dataset, backbone with all its parameters, resolution, seed, number of probe
    images and machine; for the raw-pixel baseline, backbone and seed may differ. Of several baselines the latest is
    used. The columns `published`, `published_knn` and `within_spread` are empty until `beside_papers` fills them.
    Raises ValueError (pydantic's) if a recipe lacks a key of `Shown`.
    """
    baselines = {_baseline_key(run, run.subject): run for run in _by_date(runs) if run.subject != "trained"}
    rows = [
        _row(run, baselines.get(_baseline_key(run, "untrained")), baselines.get(_baseline_key(run, "pixels")))
        for run in runs
        if run.subject == "trained"
    ]
    table = frame_of(rows, COLUMNS)
    ranks = table.groupby(["dataset", "machine"])["knn_top1"].rank(method="min", ascending=False)
    table["rank"] = ranks.astype("int64")
    return table.sort_values(["dataset", "machine", "rank", "name"], ignore_index=True)


def commit_of(environment: Environment) -> str:
    """Return the commit that was measured, with `-dirty` if files had been changed since; empty without a checkout."""
    return environment.commit + ("-dirty" if environment.commit and environment.dirty else "")


def _by_date(runs: Iterable[Run]) -> list[Run]:
    """Return the runs from oldest to newest; the order does not depend on the order of the files."""
    return sorted(runs, key=lambda run: (run.created, run.name))


def _baseline_key(run: Run, subject: str) -> Hashable:
    """Return a key that is equal for a run and its baseline. subject: the baseline's, "untrained" or "pixels"."""
    shown = Shown.model_validate(run.recipe)
    encoder = None if subject == "pixels" else (json.dumps(shown.backbone.model_dump(), sort_keys=True), run.seed)
    images = (run.accuracy.train_images, run.accuracy.test_images)
    return subject, shown.dataset, shown.size, encoder, images, run.environment.machine


def _row(run: Run, untrained: Run | None, pixels: Run | None) -> dict[str, Any]:
    """Return the row of a run. untrained, pixels: its baselines, if they were measured."""
    shown = Shown.model_validate(run.recipe)
    row: dict[str, Any] = {
        "method": shown.method.name,
        "uses_labels": "yes" if uses_labels(shown.method.model_dump()) else "no",
        "dataset": shown.dataset,
        "backbone": shown.backbone.name,
        "resolution": shown.size,
        "views": shown.views,
        "epochs": shown.epochs,
        "batch": shown.batch,
        "machine": run.environment.machine,
        "knn_top1": run.accuracy.knn_top1,
        "knn_rule": shown.probe.rule,
        "linear_top1": run.accuracy.linear_top1,
        "untrained_knn_top1": untrained.accuracy.knn_top1 if untrained else math.nan,
        "untrained_linear_top1": untrained.accuracy.linear_top1 if untrained else math.nan,
        "pixels_knn_top1": pixels.accuracy.knn_top1 if pixels else math.nan,
        "pixels_linear_top1": pixels.accuracy.linear_top1 if pixels else math.nan,
        "knn_gain": run.accuracy.knn_top1 - untrained.accuracy.knn_top1 if untrained else math.nan,
        "linear_gain": run.accuracy.linear_top1 - untrained.accuracy.linear_top1 if untrained else math.nan,
        "train_images": run.accuracy.train_images,
        "test_images": run.accuracy.test_images,
        "seed": run.seed,
        "recipe": shown.name,
        "recipe_hash": recipe_hash(run.recipe),
        "overridden": overridden(run),
        "commit": commit_of(run.environment),
        "environment": run.environment.hash,
        "date": run.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": run.name,
    }
    row["seconds_to_target"] = seconds_to(TARGETS.get(shown.dataset), course(run))
    return row | _beyond_top1(run) | _speed(run)


def _beyond_top1(run: Run) -> dict[str, float]:
    """Return top-5 and the bounds of top-1's 95 % interval over test images for both probes, and kNN at k = 10.

    Older records lack top-5 and kNN at k = 10, which are then NaN. If they lack the interval, it is computed from the
    number of test images: a bootstrap over images that are right or wrong draws from a binomial distribution.
    """
    ten = run.accuracy.probes.get("knn-10")
    row = {"knn10_top1": ten.top1 if ten else math.nan}
    for probe in ("knn", "linear"):
        found = run.accuracy.probes.get(probe)
        low, high = found.interval if found else _binomial(run, probe)
        top5 = math.nan if found is None or found.top5 is None else found.top5
        row |= {f"{probe}_top5": top5, f"{probe}_top1_low": low, f"{probe}_top1_high": high}
    return row


def _binomial(run: Run, probe: str) -> tuple[float, float]:
    """Return the bounds of the binomial interval of a probe's top-1, in percent."""
    images, share = run.accuracy.test_images, getattr(run.accuracy, f"{probe}_top1") / 100
    low, high = stats.binom.interval(LEVEL, images, share)
    return 100 * float(low) / images, 100 * float(high) / images


def _speed(run: Run) -> dict[str, Any]:
    """Return the cells of speed and memory, NaN or empty where the run has no training or no ceilings."""
    training, ceilings = run.training, run.ceilings
    words = ("precision", "loader", "device", "bottleneck")
    speed: dict[str, Any] = dict.fromkeys(SPEEDS, math.nan) | dict.fromkeys(words, "")
    if training:
        speed |= {
            "precision": training.precision,
            "loader": _loader(str(run.recipe.get("resident", "off")), training),
            "device": training.device,
            "training_s": training.seconds,
            "views_per_s": training.views_per_s,
            "views_per_s_iqr": _rates_iqr(training),
            "seconds_per_epoch": training.seconds_per_epoch,
            "data_wait_share": training.data_wait_share,
            "peak_memory_mib": training.peak_host_mib,
            "peak_device_mib": math.nan if training.peak_device_mib is None else training.peak_device_mib,
        }
    if ceilings:
        speed |= {
            "loader_views_per_s": ceilings.loader,
            "model_views_per_s": ceilings.model,
            "bottleneck": ceilings.bottleneck,
        }
    if training and ceilings:
        speed["efficiency"] = ceilings.efficiency(training.views_per_s)
    return speed


def _loader(resident: str, training: Training) -> str:
    """Return how the images were loaded: the number of threads, or that they were resident on the device."""
    threads = f"{training.loader_threads} thread" + ("" if training.loader_threads == 1 else "s")
    if resident == "on":
        return "resident"
    return threads if resident == "off" or training.device == "cpu" else f"resident if it fits, else {threads}"


def _rates_iqr(training: Training) -> float:
    """Return the interquartile range of the epochs' views/s; NaN for one epoch, or if the views grow over epochs."""
    if len(training.epoch_seconds) < 2 or training.sizes:
        return math.nan
    rates = training.views_per_epoch / np.asarray(training.epoch_seconds)
    return float(np.subtract(*np.quantile(rates, [0.75, 0.25])))


def overridden(run: Run) -> str:
    """Return the settings that differ from the recipe's file, except the settings in `HARMLESS`."""
    if run.overrides is None:
        return "not recorded"
    return ", ".join(sorted(key for key in run.overrides if key not in HARMLESS))


def recipe_hash(recipe: dict[str, Any]) -> str:
    """Return a hash of eight hex digits that ignores the seed."""
    content = {key: value for key, value in recipe.items() if key != "seed"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
