"""Compare old evidence with new: for each metric the ratio with its bootstrap interval, and whether it is a regression.

A regression is reported only where the whole interval lies beyond the threshold. A record (the evidence of one
measurement, a JSON file) is compared only with records of the same name, machine and settings; all others are listed as
skipped. Runs that differ only in their seed are samples of one work.
"""

import math
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from twoview.bench import evidence
from twoview.bench.config import recipe
from twoview.bench.config.differences import differing
from twoview.bench.evidence import AnyRecord, ConvertRates, DeviceFigures, LoaderRates, ProbeCost, Probing, Run, Theory
from twoview.bench.measurement import bootstrap
from twoview.bench.measurement.bootstrap import Cost, Verdict
from twoview.bench.peers.race import TWOVIEW
from twoview.bench.runtime.escapes import markdown, one_line

# Half of the ten percent that must be found, and more than the difference between two sessions on one quiet machine.
THRESHOLD = 0.05
# As a share of an accuracy: 1.6 points at 80 %, about the difference between seeds.
ACCURACY_THRESHOLD = 0.02

# kind of record -> fields that must be equal for two records to be compared
SAME_WORK = {
    Probing: ("encoder", "dataset", "size", "probe"),
    LoaderRates: ("beton", "views", "size", "images", "batch", "threads"),
    ProbeCost: ("probe", "train", "test", "dim", "classes", "threads", "settings"),
    ConvertRates: ("dataset", "images", "threads"),
    DeviceFigures: ("device", "recipe"),
    Theory: ("name",),
}
MEMORY = ("MiB", "GiB")  # a busy machine does not increase these
COLUMNS = ("work", "metric", "old", "new", "new / old", "95 % interval", "verdict")
VERDICTS: dict[Verdict, str] = {"worse": "REGRESSION", "better": "better", "same": "same", "unclear": "unclear"}


class Metric(NamedTuple):
    """One run's samples of a metric. better: which values are better.

    images: number of test images behind an accuracy; None for other metrics.
    """

    name: str
    unit: str
    better: Literal["less", "more"]
    samples: Sequence[float]
    images: int | None = None


@dataclass(frozen=True)
class Row:
    """One metric of one work on both sides. old, new: medians in `unit`.

    cost: the ratio new / old of a quantity that is better when it is smaller, so a rate is inverted; None where a side
    has a single sample, which gives no interval. allowed: share by which the cost may grow. samples: numbers of samples
    of old and new.
    """

    work: str
    metric: str
    unit: str
    better: Literal["less", "more"]
    old: float
    new: float
    cost: Cost | None
    allowed: float
    samples: tuple[int, int] = (1, 1)

    @property
    def verdict(self) -> Verdict:
        """Worse, better or same if the whole interval agrees, with `allowed` as the threshold; otherwise unclear."""
        return self.cost.verdict(self.allowed) if self.cost else "unclear"

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of new / old; None where there is none."""
        if self.cost is None:
            return None
        return (self.cost.low, self.cost.high) if self.better == "less" else (1 / self.cost.high, 1 / self.cost.low)

    @property
    def ratio(self) -> float | None:
        """New / old: the interval's ratio if there is one, else the ratio of the medians, or None if old is 0."""
        if self.cost is None:
            return self.new / self.old if self.old else None
        return self.cost.ratio if self.better == "less" else 1 / self.cost.ratio

    def cells(self) -> tuple[str, ...]:
        """The row's text for each of COLUMNS."""
        between = f"{self.interval[0]:.3f} to {self.interval[1]:.3f}" if self.interval else ""
        verdict = VERDICTS[self.verdict] if self.interval else "one sample"
        old, new = (f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in (self.old, self.new))
        ratio = "" if self.ratio is None else f"{self.ratio:.3f}"
        return self.work, f"{self.metric}, {self.unit}", old, new, ratio, between, verdict


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two sides.

    left_out: one sentence for each record that is not compared, with the reason. notes: other remarks.
    """

    rows: list[Row]
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def regressions(self) -> list[Row]:
        """The rows in which new is worse."""
        return [row for row in self.rows if row.verdict == "worse"]

    @property
    def headline(self) -> str:
        """One line with the numbers of metrics that are worse, better and unclear."""
        worse, better = (sum(row.verdict == verdict for row in self.rows) for verdict in ("worse", "better"))
        unclear = sum(row.verdict == "unclear" for row in self.rows)
        return f"{len(self.rows)} metrics: {worse} regressed, {better} better, {unclear} unclear"

    def as_result(self) -> dict[str, Any]:
        """Return the comparison as a dictionary for `--json`."""
        rows = [
            asdict(row) | {"ratio": row.ratio, "interval": row.interval, "verdict": row.verdict, "cost": None}
            for row in self.rows
        ]
        for row in rows:
            del row["cost"]  # "ratio" and "interval" say the same of new / old
        return {"regressed": bool(self.regressions), "rows": rows, "left_out": self.left_out, "notes": self.notes}

    def table(self) -> Table:
        """Return the table for a terminal. If the terminal is narrow, words wrap and numbers do not."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for number, column in enumerate(COLUMNS):
            table.add_column(
                column, justify="right" if 2 <= number <= 5 else "left", no_wrap=number > 1, overflow="fold"
            )
        colors: dict[Verdict, str] = {"worse": "bold red", "better": "green", "same": "", "unclear": "dim"}
        for row in self.rows:
            table.add_row(*(Text(one_line(cell)) for cell in row.cells()), style=colors[row.verdict])
        return table

    def show(self, console: Console) -> None:
        """Print the table, all remarks and the headline."""
        console.print(self.table())
        for sentence in [*self.notes, *(f"skipped: {sentence}" for sentence in self.left_out), self.headline]:
            console.print(Text(one_line(sentence)))

    def markdown(self) -> str:
        """Return Markdown for a pull request: the regressions first, and all other rows folded away."""
        worse = self.regressions
        others = [row for row in self.rows if row not in worse]
        lines = [f"**{self.headline}**", ""]
        lines += [*_markdown_table(worse), ""] if worse else []
        lines += ["<details><summary>all other metrics</summary>", "", *_markdown_table(others), "", "</details>", ""]
        lines += [f"* {markdown(sentence)}" for sentence in [*self.notes, *(f"Skipped: {s}" for s in self.left_out)]]
        return "\n".join(lines).rstrip() + "\n"


def _markdown_table(rows: Iterable[Row]) -> list[str]:
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|--:|--:|--:|--:|---|"]
    return lines + [f"| {' | '.join(map(markdown, row.cells()))} |" for row in rows]


def compare(
    old: str,
    new: str,
    folder: Path,
    threshold: float = THRESHOLD,
    accuracy_threshold: float = ACCURACY_THRESHOLD,
) -> Comparison:
    """Compare two sides. A side is a record's file, a folder of records, or a commit whose records are in `folder`.

    threshold, accuracy_threshold: shares by which a cost and an accuracy may get worse. A record that cannot be
    compared is listed in `left_out`. Raises ValueError if a side has no record, or if nothing can be compared.
    """
    left_out: list[str] = []
    sides = [
        [record for record in records(side, folder, left_out) if _comparable(record, left_out)] for side in (old, new)
    ]
    works = [_by_work(side) for side in sides]
    rows: list[Row] = []
    for key in sorted(works[0].keys() | works[1].keys()):
        pair = [work.get(key, []) for work in works]
        if reason := _why_not_compared(key, pair, works):
            left_out.append(reason)
        else:
            rows += _rows(key[0], pair[0], pair[1], threshold, accuracy_threshold)
    if not rows:
        raise ValueError(f"{old} and {new} have nothing in common to compare: {'; '.join(left_out)}")
    return Comparison(rows, left_out, _changed_packages(*sides))


def _comparable(record: AnyRecord, left_out: list[str]) -> bool:
    """Return whether the record's settings and samples can be read; if not, add the reason to left_out.

    A valid record may still lack half of its recipe.
    """
    try:
        _settings(record), list(metrics(record))
    except Exception as error:  # whatever was raised, only this record is affected
        left_out.append(f"{record.name}.json cannot be compared: {evidence.reason(error)}")
        return False
    return True


def records(side: str, folder: Path, left_out: list[str]) -> list[AnyRecord]:
    """Return the records of a file, a folder or a commit.

    left_out gets a sentence for each record that cannot be read, or was not measured with exactly the commit's code.
    """
    if Path(side).is_file():
        return [evidence.read(Path(side))]
    if Path(side).is_dir():
        found, complaints = evidence.read_folder(Path(side))
        left_out += complaints
    else:
        commit = _commit(side)
        every, complaints = evidence.read_folder(folder)
        left_out += complaints
        found = [record for record in every if record.environment.commit == commit]
        left_out += [
            f"{record.name} was measured at {side} with uncommitted changes"
            for record in found
            if record.environment.dirty
        ]
        found = [record for record in found if not record.environment.dirty]
    if not found:
        raise ValueError(f"there is no record of {side}" + ("" if Path(side).is_dir() else f" in {folder}"))
    return found


def _commit(name: str) -> str:
    """Return the full hash of a commit."""
    words = ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{name} must be an existing file, folder or commit")
    return done.stdout.strip()


Key = tuple[str, str]  # work, machine
Works = dict[Key, list[AnyRecord]]


def _by_work(side: list[AnyRecord]) -> Works:
    """Group records by work and machine. The runs of a recipe with several seeds are one work."""
    works: Works = defaultdict(list)
    for record in side:
        seed = f"-seed{record.seed}" if isinstance(record, Run) else ""
        works[record.name.removesuffix(seed), record.environment.machine].append(record)
    return dict(works)


def _why_not_compared(key: Key, pair: list[list[AnyRecord]], works: list[Works]) -> str:
    """Return why the work cannot be compared, in one sentence; empty if it can."""
    name, machine = key
    old, new = pair
    if not (old and new):
        side, other = ("new", works[0]) if new else ("old", works[1])
        machines = [theirs for work, theirs in other if work == name]
        if machines:
            return f"{name} was measured on {machine} and on {', '.join(machines)}, which are not compared"
        return f"{name} on {machine} exists on the {side} side only"
    first = _settings(old[0])
    for side, records in (("old", old), ("new", new)):
        for record in records:
            if words := differing(_settings(record), first, f"the old record of {old[0].created:%Y-%m-%d %H:%M:%S}"):
                made = f"the {side} record of {record.created:%Y-%m-%d %H:%M:%S}"
                return f"{name} is not compared because {made} has other settings: {words}"
    return ""


def _settings(record: AnyRecord) -> dict[str, Any]:
    """Return the settings that two records of one work must share."""
    if isinstance(record, Run):
        settings = recipe.parse(record.recipe, record.name).settings()
        trained = {"precision": record.training.precision, "device": record.training.device} if record.training else {}
        return {key: settings[key] for key in settings.keys() - {"seed", "name"}} | trained
    settings = {key: getattr(record, key) for key in ("kind", *SAME_WORK[type(record)])}
    if isinstance(record, Probing):  # the encoder is not one of them, because it may have been trained again
        settings |= {key: value for key, value in record.asked.items() if key != "encoder"}
    return settings


def _rows(
    work: str, old: list[AnyRecord], new: list[AnyRecord], threshold: float, accuracy_threshold: float
) -> Iterator[Row]:
    """Yield a row for each metric that both sides have."""
    old_metrics, new_metrics = (_by_name(side) for side in (old, new))
    seeds = [[record.seed for record in side if isinstance(record, Run)] for side in (old, new)]
    for name in (name for name in old_metrics if name in new_metrics):
        before, after = old_metrics[name], new_metrics[name]
        first = before[0]
        if first.images:
            cost, allowed = _accuracy_cost(before, after, paired=seeds[0] == seeds[1]), accuracy_threshold
        else:
            cost, allowed = bootstrap.unpaired_cost(_costs(before), _costs(after)), threshold
            # The interval is widened by how much slower the machine itself was at its fixed work, except for memory,
            # which does not depend on it.
            equal = bootstrap.unpaired_cost(*([record.calibration_seconds for record in side] for side in (old, new)))
            cost = cost.widened(equal) if cost and equal and first.unit not in MEMORY else cost
        pooled = [[sample for metric in side for sample in metric.samples] for side in (before, after)]
        yield Row(
            work=work,
            metric=name,
            unit=first.unit,
            better=first.better,
            old=median(pooled[0]),
            new=median(pooled[1]),
            cost=cost,
            allowed=allowed,
            samples=(len(pooled[0]), len(pooled[1])),
        )


def _costs(metrics: list[Metric]) -> list[list[float]]:
    """Return the samples of each run as costs, which are better when smaller: rates are inverted."""
    return [[1 / value if m.better == "more" else value for value in m.samples] for m in metrics]


def _accuracy_cost(old: list[Metric], new: list[Metric], paired: bool) -> Cost | None:
    """Return the cost over seeds, paired where both sides have the same seeds.

    Where a side has a single seed, the interval comes from the number of test images instead.
    """
    if min(len(old), len(new)) == 1:
        shares = [fmean(metric.samples[0] for metric in side) / 100 for side in (old, new)]
        return bootstrap.accuracy_cost(shares[0], old[0].images or 0, shares[1], new[0].images or 0)
    if paired:
        return bootstrap.paired_cost(*([1 / _above_0(metric) for metric in side] for side in (old, new)))
    return bootstrap.unpaired_cost(*([[1 / _above_0(metric)] for metric in side] for side in (old, new)))


def _above_0(accuracy: Metric) -> float:
    """Return the accuracy in percent. An accuracy of 0 counts as half an image, because a ratio to 0 says nothing."""
    return max(accuracy.samples[0], 50 / (accuracy.images or 1))


def _by_name(side: list[AnyRecord]) -> dict[str, list[Metric]]:
    """Return each metric's samples of all runs, in the order of their seeds."""
    named: dict[str, list[Metric]] = defaultdict(list)
    for record in sorted(side, key=lambda record: record.seed if isinstance(record, Run) else 0):
        for metric in metrics(record):
            if metric.images or _has_ratio(metric):
                named[metric.name].append(metric)
    return dict(named)


def _has_ratio(metric: Metric) -> bool:
    """Return whether a ratio of the metric's samples makes sense: all are finite and above 0.

    A single sample that is better when smaller, such as added memory, is shown even if it is 0.
    """
    if metric.better == "less" and len(metric.samples) == 1:
        return math.isfinite(metric.samples[0])
    return all(0 < sample < math.inf for sample in metric.samples)


def metrics(record: AnyRecord) -> Iterator[Metric]:
    """Yield the metrics of a record that are compared, as raw samples without compiling and warm-up."""
    if isinstance(record, Run):
        yield from _run_metrics(record)
    elif isinstance(record, DeviceFigures):
        for figure in record.figures:
            unit, better, _ = figure.kind
            if better and figure.samples:
                yield Metric(f"{figure.work}: {figure.name}", unit, better, figure.samples)
    elif isinstance(record, Probing):
        yield Metric("top-1", "%", "more", [record.probed.top1], record.probed.test_images)
        yield Metric("seconds", "s", "less", [record.probed.seconds])
        yield Metric("peak host memory", "MiB", "less", [record.probed.peak_host_mib])
    elif isinstance(record, ProbeCost):
        if TWOVIEW in record.seconds:
            yield Metric("seconds", "s", "less", record.seconds[TWOVIEW])
        if TWOVIEW in record.added_mib:
            yield Metric("added memory", "MiB", "less", [record.added_mib[TWOVIEW]])
    elif not isinstance(record, Theory):  # a theory record has claims that hold or fail, but no samples
        if TWOVIEW in record.images_per_s:
            yield Metric("rate", "images/s", "more", record.images_per_s[TWOVIEW])
        if isinstance(record, LoaderRates):
            if TWOVIEW in record.first_batch_s:
                yield Metric("first batch", "s", "less", [record.first_batch_s[TWOVIEW]])
            if TWOVIEW in record.peak_mib:
                yield Metric("peak memory", "MiB", "less", [record.peak_mib[TWOVIEW]])


def _run_metrics(record: Run) -> Iterator[Metric]:
    """Yield the metrics of a training run: its times, memory, ceilings and accuracies."""
    if training := record.training:
        epochs = training.epoch_seconds
        # Warm-up steps, which do not count: the first epoch, or a tenth of the steps where there is only one.
        warm = len(training.step_seconds) // (len(epochs) if len(epochs) > 1 else 10)
        yield Metric("epoch", "s", "less", epochs[1:] or epochs)
        if training.step_seconds:
            yield Metric("step", "s", "less", training.step_seconds[warm:])
        yield Metric("peak host memory", "MiB", "less", [training.peak_host_mib])
        if training.peak_device_mib:
            yield Metric("peak device memory", "MiB", "less", [training.peak_device_mib])
    if record.ceilings:
        yield Metric("loader alone", "views/s", "more", record.ceilings.loader_views_per_s)
        yield Metric("model alone", "views/s", "more", record.ceilings.model_views_per_s)
    images = record.accuracy.test_images
    yield Metric("kNN top-1", "%", "more", [record.accuracy.knn_top1], images)
    yield Metric("linear top-1", "%", "more", [record.accuracy.linear_top1], images)


def _changed_packages(old: list[AnyRecord], new: list[AnyRecord]) -> list[str]:
    """Return a sentence for each package whose versions differ between the sides."""
    before, after = (
        {name: {record.environment.packages.get(name, "absent") for record in side} for name in _packages(old + new)}
        for side in (old, new)
    )
    changed = (name for name in before if before[name] != after[name])
    return [
        f"{name}: {_versions(before[name])} on the old side, {_versions(after[name])} on the new" for name in changed
    ]


def _versions(found: set[str]) -> str:
    return " and ".join(sorted(found))


def _packages(side: list[AnyRecord]) -> list[str]:
    return sorted({name for record in side for name in record.environment.packages})
