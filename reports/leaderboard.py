"""Runs -> rows: one row a trained encoder with its baselines beside it, and the same rows summed up over seeds.

Accuracies are top-1 in percent; shares and efficiency are fractions of 1. A cell without evidence is NaN or empty.
`seconds_to_target`: of a dataset in `significance.TARGETS`; of a run infinite where it never got there.
"""

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, field_validator
from scipy import stats

from twoview.bench.evidence.records import Count, PositiveCount, Run, Training, Word
from twoview.bench.measurement.environment import Environment
from twoview.reports.significance import LEVEL, TARGETS, course, interval, mlperf_time, seconds_to, welch

COLUMNS = [
    "rank",
    "method",
    "dataset",
    "backbone",
    "resolution",
    "views",
    "epochs",
    "batch",
    "precision",
    "loader",
    "device",
    "machine",
    "knn_top1",
    "linear_top1",
    "untrained_knn_top1",
    "untrained_linear_top1",
    "pixels_knn_top1",
    "pixels_linear_top1",
    "knn_gain",
    "knn_top5",
    "knn_top1_low",
    "knn_top1_high",
    "linear_top5",
    "linear_top1_low",
    "linear_top1_high",
    "views_per_s",
    "views_per_s_iqr",
    "seconds_per_epoch",
    "seconds_to_target",
    "data_wait_share",
    "loader_views_per_s",
    "model_views_per_s",
    "efficiency",
    "bottleneck",
    "peak_memory_mib",
    "peak_device_mib",
    "train_images",
    "test_images",
    "seed",
    "recipe",
    "recipe_hash",
    "overridden",
    "commit",
    "environment",
    "date",
    "name",
]

# What has to be equal for two runs to differ by their seed alone.
EXPERIMENT = [
    "dataset",
    "method",
    "backbone",
    "resolution",
    "epochs",
    "batch",
    "precision",
    "device",
    "machine",
    "recipe",
    "recipe_hash",
]
ACCURACIES = [
    "knn_top1",
    "linear_top1",
    "untrained_knn_top1",
    "untrained_linear_top1",
    "pixels_knn_top1",
    "pixels_linear_top1",
    "knn_gain",
]
SPEEDS = [
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
SUMMARY_COLUMNS = [
    *EXPERIMENT,
    "seeds",
    "gain_seeds",
    *(f"{accuracy}_{statistic}" for accuracy in ACCURACIES for statistic in ("mean", "sd", "min", "max")),
    *(f"{probe}_interval_{end}" for probe in ("knn", "linear") for end in ("low", "high")),
    "knn_p",
    "seconds_to_target",
    "time_p",
    *SPEEDS,
    "bottleneck",
    "overridden",
]
# Settings of a recipe that change how fast it trains or how it is watched, not what is trained.
HARMLESS = ["seed", "precision", "compile", "cuda_graph", "deterministic", "loader_threads", "resident"]
HARMLESS += ["checkpoint_steps", "damaged", "probe.online", "probe.online_knn_epochs", "probe.online_knn_images"]


class Named(BaseModel):
    """A method or a backbone: its name, and parameters that a row does not show."""

    model_config = ConfigDict(extra="allow")

    name: Word


class Shown(BaseModel):
    """What a row shows of a recipe. `size` is the resolution in pixels."""

    name: Word
    dataset: Word
    size: PositiveCount
    views: Word = ""
    method: Named
    backbone: Named
    epochs: Count
    batch: Count

    @field_validator("method", "backbone", mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


def leaderboard(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run of subject `trained`, ranked by kNN top-1 within its dataset and machine; equal accuracies tie.

    The untrained baseline is the one of the same dataset, backbone with all its parameters, resolution, seed, number
    of probe images and machine; raw pixels likewise, without backbone and seed. Of several the latest counts.
    ValueError (pydantic's) if a recipe lacks a key of `Shown`.
    """
    baselines = {_baseline_key(run, run.subject): run for run in _by_date(runs) if run.subject != "trained"}
    rows = [
        _row(run, baselines.get(_baseline_key(run, "untrained")), baselines.get(_baseline_key(run, "pixels")))
        for run in runs
        if run.subject == "trained"
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    ranks = table.groupby(["dataset", "machine"])["knn_top1"].rank(method="min", ascending=False)
    table["rank"] = ranks.astype("int64")
    return table.sort_values(["dataset", "machine", "rank", "name"], ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a leaderboard over seeds: one row an experiment and machine.

    Accuracies and the gain over untrained: mean, `sd` (sample standard deviation, NaN for one seed), min, max;
    of trained kNN and linear top-1 also the ends of Student's 95 % interval of the mean, NaN for one seed.
    Speeds and memory: the median. `seeds` counts the seeds, `gain_seeds` those with an untrained baseline.
    A seed that was run again counts once, by its latest run. Rows are ordered by dataset, machine and mean kNN top-1.
    seconds_to_target: MLPerf's mean. knn_p, time_p: of Welch's t between this experiment's seeds and those of the best
    one on the dataset and machine, by kNN top-1 and by the time to target; NaN for the best itself.
    """
    once = table.sort_values(["date", "name"]).drop_duplicates([*EXPERIMENT, "seed"], keep="last")
    seeds = dict(list(once.groupby(EXPERIMENT)))
    rows = [dict(zip(EXPERIMENT, experiment, strict=True)) | _over_seeds(runs) for experiment, runs in seeds.items()]
    order = ["dataset", "machine", "knn_top1_mean", "method", "recipe_hash"]
    over_seeds = pd.DataFrame(rows, columns=SUMMARY_COLUMNS).sort_values(
        order, ascending=[True, True, False, True, True], ignore_index=True
    )
    over_seeds["knn_p"] = _against_the_best(over_seeds, seeds, "knn_top1", -over_seeds["knn_top1_mean"])
    over_seeds["time_p"] = _against_the_best(over_seeds, seeds, "seconds_to_target", over_seeds["seconds_to_target"])
    return over_seeds


def by_machine(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each machine apart, since a table that is read or sorted as one is a ranking."""
    return [(str(machine), rows) for machine, rows in table.groupby("machine")]


def commit_of(environment: Environment) -> str:
    """The commit, marked as git describe marks it where files had been changed since; empty without a checkout."""
    return environment.commit + ("-dirty" if environment.commit and environment.dirty else "")


def _against_the_best(
    over_seeds: pd.DataFrame, seeds: Mapping[Any, pd.DataFrame], column: str, order: pd.Series
) -> pd.Series:
    """Of each row, Welch's p against the one of its dataset and machine that is least by `order`; NaN for that one."""
    p = pd.Series(math.nan, index=over_seeds.index)
    for _, rows in over_seeds.groupby(["dataset", "machine"]):
        if order[rows.index].notna().any():
            best = order[rows.index].idxmin()
            samples = {i: seeds[tuple(rows.loc[i, EXPERIMENT])][column].tolist() for i in rows.index}
            for i in samples:
                p[i] = welch(samples[i], samples[best]) if i != best else math.nan
    return p


def _by_date(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.created, run.name))


def _baseline_key(run: Run, subject: str) -> Hashable:
    shown = Shown.model_validate(run.recipe)
    encoder = None if subject == "pixels" else (json.dumps(shown.backbone.model_dump(), sort_keys=True), run.seed)
    images = (run.accuracy.train_images, run.accuracy.test_images)
    return subject, shown.dataset, shown.size, encoder, images, run.environment.machine


def _row(run: Run, untrained: Run | None, pixels: Run | None) -> dict[str, Any]:
    shown = Shown.model_validate(run.recipe)
    row: dict[str, Any] = {
        "method": shown.method.name,
        "dataset": shown.dataset,
        "backbone": shown.backbone.name,
        "resolution": shown.size,
        "views": shown.views,
        "epochs": shown.epochs,
        "batch": shown.batch,
        "machine": run.environment.machine,
        "knn_top1": run.accuracy.knn_top1,
        "linear_top1": run.accuracy.linear_top1,
        "untrained_knn_top1": untrained.accuracy.knn_top1 if untrained else math.nan,
        "untrained_linear_top1": untrained.accuracy.linear_top1 if untrained else math.nan,
        "pixels_knn_top1": pixels.accuracy.knn_top1 if pixels else math.nan,
        "pixels_linear_top1": pixels.accuracy.linear_top1 if pixels else math.nan,
        "knn_gain": run.accuracy.knn_top1 - untrained.accuracy.knn_top1 if untrained else math.nan,
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
    """Top-5, NaN in records older than it is, and the ends of top-1's interval over test images, of both probes.

    A record without the interval has the number of test images: their bootstrap is binomial draws.
    """
    row: dict[str, float] = {}
    for probe in ("knn", "linear"):
        found = run.accuracy.probes.get(probe)
        low, high = found.interval if found else _binomial(run, probe)
        top5 = math.nan if found is None or found.top5 is None else found.top5
        row |= {f"{probe}_top5": top5, f"{probe}_top1_low": low, f"{probe}_top1_high": high}
    return row


def _binomial(run: Run, probe: str) -> tuple[float, float]:
    images, share = run.accuracy.test_images, getattr(run.accuracy, f"{probe}_top1") / 100
    low, high = stats.binom.interval(LEVEL, images, share)
    return 100 * float(low) / images, 100 * float(high) / images


def _speed(run: Run) -> dict[str, Any]:
    training, ceilings = run.training, run.ceilings
    words = ("precision", "loader", "device", "bottleneck")
    speed: dict[str, Any] = dict.fromkeys(SPEEDS, math.nan) | dict.fromkeys(words, "")
    if training:
        speed |= {
            "precision": training.precision,
            "loader": _loader(str(run.recipe.get("resident", "off")), training),
            "device": training.device,
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
    threads = f"{training.loader_threads} thread" + ("" if training.loader_threads == 1 else "s")
    if resident == "on":
        return "resident"
    return threads if resident == "off" or training.device == "cpu" else f"resident if it fits, else {threads}"


def _rates_iqr(training: Training) -> float:
    """Interquartile range of the epochs' rates; NaN for one epoch, and where the views grow from epoch to epoch."""
    if len(training.epoch_seconds) < 2 or training.sizes:
        return math.nan
    rates = training.views_per_epoch / np.asarray(training.epoch_seconds)
    return float(np.subtract(*np.quantile(rates, [0.75, 0.25])))


def overridden(run: Run) -> str:
    """Which settings are not as in the recipe file of the run's recipe."""
    if run.overrides is None:
        return "not recorded"
    return ", ".join(sorted(key for key in run.overrides if key not in HARMLESS))


def recipe_hash(recipe: dict[str, Any]) -> str:
    """Eight hex digits of everything but the seed: equal experiments, equal hash."""
    content = {key: value for key, value in recipe.items() if key != "seed"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _over_seeds(runs: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"seeds": len(runs), "gain_seeds": int(runs["knn_gain"].count())}
    for accuracy in ACCURACIES:
        values = runs[accuracy]
        row |= {
            f"{accuracy}_mean": values.mean(),
            f"{accuracy}_sd": values.std(ddof=1),
            f"{accuracy}_min": values.min(),
            f"{accuracy}_max": values.max(),
        }
    for probe in ("knn", "linear"):
        _, low, high = interval(runs[f"{probe}_top1"].tolist())
        row |= {f"{probe}_interval_low": low, f"{probe}_interval_high": high}
    row["seconds_to_target"] = mlperf_time(runs["seconds_to_target"].tolist())
    row["overridden"] = ", ".join(sorted(set(runs["overridden"]) - {""}))
    row |= {speed: runs[speed].median() for speed in SPEEDS}
    row["bottleneck"] = " or ".join(sorted(set(runs["bottleneck"]) - {""}))
    return row
