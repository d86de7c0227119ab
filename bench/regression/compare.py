"""Old evidence beside new: for each metric the ratio with its bootstrap interval, and whether that is a regression.

A regression is called only where the whole interval lies beyond the threshold. A record is compared with one of the
same name, machine and settings alone; every other is left out by name. Seeds are samples of one work.
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

# Half of the ten percent that have to be found, and above what two sessions on one quiet machine differ by.
THRESHOLD = 0.05
# Of an accuracy: 1.6 points at 80 %, about what seeds differ by.
ACCURACY_THRESHOLD = 0.02

SAME_WORK = {
    Probing: ("encoder", "dataset", "size", "probe"),
    LoaderRates: ("beton", "views", "size", "images", "batch", "threads"),
    ProbeCost: ("probe", "train", "test", "dim", "classes", "threads", "settings"),
    ConvertRates: ("dataset", "images", "threads"),
    DeviceFigures: ("device", "recipe"),
    Theory: ("name",),
}
MEMORY = ("MiB", "GiB")  # a busy machine takes no more of it
COLUMNS = ("work", "metric", "old", "new", "new / old", "95 % interval", "verdict")
VERDICTS: dict[Verdict, str] = {"worse": "REGRESSION", "better": "better", "same": "same", "unclear": "unclear"}


class Metric(NamedTuple):
    """One run's samples of something. better: which way it has to go. images: that an accuracy was taken on."""

    name: str
    unit: str
    better: Literal["less", "more"]
    samples: Sequence[float]
    images: int | None = None


@dataclass(frozen=True)
class Row:
    """One metric of one work on both sides: medians in `unit`.

    cost: new over old of what is better the less it is, so that a rate is turned round; None where a side has a single
    sample, which has no interval. allowed: the share of it that may be lost.
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
        return self.cost.verdict(self.allowed) if self.cost else "unclear"

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of new / old."""
        if self.cost is None:
            return None
        return (self.cost.low, self.cost.high) if self.better == "less" else (1 / self.cost.high, 1 / self.cost.low)

    @property
    def ratio(self) -> float | None:
        """New / old: the middle of the interval's draws where there is one, else of the medians; None of an old 0."""
        if self.cost is None:
            return self.new / self.old if self.old else None
        return self.cost.ratio if self.better == "less" else 1 / self.cost.ratio

    def cells(self) -> tuple[str, ...]:
        """By COLUMNS."""
        between = f"{self.interval[0]:.3f} to {self.interval[1]:.3f}" if self.interval else ""
        verdict = VERDICTS[self.verdict] if self.interval else "one sample"
        old, new = (f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in (self.old, self.new))
        ratio = "" if self.ratio is None else f"{self.ratio:.3f}"
        return self.work, f"{self.metric}, {self.unit}", old, new, ratio, between, verdict


@dataclass(frozen=True)
class Comparison:
    """left_out: a sentence for each record that has nothing to be compared with, and why. notes: what else to know."""

    rows: list[Row]
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def regressions(self) -> list[Row]:
        return [row for row in self.rows if row.verdict == "worse"]

    @property
    def headline(self) -> str:
        worse, better = (sum(row.verdict == verdict for row in self.rows) for verdict in ("worse", "better"))
        unclear = sum(row.verdict == "unclear" for row in self.rows)
        return f"{len(self.rows)} metrics: {worse} regressed, {better} better, {unclear} unclear"

    def as_result(self) -> dict[str, Any]:
        """For `--json`."""
        rows = [
            asdict(row) | {"ratio": row.ratio, "interval": row.interval, "verdict": row.verdict, "cost": None}
            for row in self.rows
        ]
        for row in rows:
            del row["cost"]  # new / old says it
        return {"regressed": bool(self.regressions), "rows": rows, "left_out": self.left_out, "notes": self.notes}

    def table(self) -> Table:
        """For a terminal; where it is narrow, the words are folded and not the numbers."""
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
        console.print(self.table())
        for sentence in [*self.notes, *(f"left out: {sentence}" for sentence in self.left_out), self.headline]:
            console.print(Text(one_line(sentence)))

    def markdown(self) -> str:
        """For a pull request: the regressions in front, all else folded away."""
        worse = self.regressions
        others = [row for row in self.rows if row not in worse]
        lines = [f"**{self.headline}**", ""]
        lines += [*_markdown_table(worse), ""] if worse else []
        lines += ["<details><summary>all others</summary>", "", *_markdown_table(others), "", "</details>", ""]
        lines += [f"* {markdown(sentence)}" for sentence in [*self.notes, *(f"Left out: {s}" for s in self.left_out)]]
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
    """Compares two sides, each a record's file, a folder of records, or a commit whose records are in `folder`.

    A record of which nothing can be compared is left out by name. ValueError where a side has no record, or nothing can
    be compared.
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
    """Whether its settings and samples can be read; if not, why: a valid record may lack half its recipe."""
    try:
        _settings(record), list(metrics(record))
    except Exception as error:  # whatever it is, it is this record's
        left_out.append(f"{record.name}.json cannot be compared: {evidence.reason(error)}")
        return False
    return True


def records(side: str, folder: Path, left_out: list[str]) -> list[AnyRecord]:
    """Of a file, a folder or a commit; what cannot be read, or is not the commit's own code, goes to left_out."""
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
            f"{record.name} was measured at {side} with changes that are in no commit"
            for record in found
            if record.environment.dirty
        ]
        found = [record for record in found if not record.environment.dirty]
    if not found:
        raise ValueError(f"there is no record of {side}" + ("" if Path(side).is_dir() else f" in {folder}"))
    return found


def _commit(name: str) -> str:
    words = ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{name} is neither a file, nor a folder, nor a commit")
    return done.stdout.strip()


Key = tuple[str, str]  # work, machine
Works = dict[Key, list[AnyRecord]]


def _by_work(side: list[AnyRecord]) -> Works:
    works: Works = defaultdict(list)
    for record in side:
        seed = f"-seed{record.seed}" if isinstance(record, Run) else ""
        works[record.name.removesuffix(seed), record.environment.machine].append(record)
    return dict(works)


def _why_not_compared(key: Key, pair: list[list[AnyRecord]], works: list[Works]) -> str:
    """Why the work cannot be compared, in a sentence; empty if it can."""
    name, machine = key
    old, new = pair
    if not (old and new):
        side, other = ("new", works[0]) if new else ("old", works[1])
        machines = [theirs for work, theirs in other if work == name]
        if machines:
            return f"{name} was measured on {machine} and on {', '.join(machines)}, which are not compared"
        return f"{name} on {machine} is on the {side} side alone"
    first = _settings(old[0])
    for side, records in (("old", old), ("new", new)):
        for record in records:
            if words := differing(_settings(record), first, f"the old record of {old[0].created:%Y-%m-%d %H:%M:%S}"):
                made = f"the {side} record of {record.created:%Y-%m-%d %H:%M:%S}"
                return f"{name} is not compared, for {made} has other settings: {words}"
    return ""


def _settings(record: AnyRecord) -> dict[str, Any]:
    """What two records of one work must share."""
    if isinstance(record, Run):
        settings = recipe.parse(record.recipe, record.name).settings()
        trained = {"precision": record.training.precision, "device": record.training.device} if record.training else {}
        return {key: settings[key] for key in settings.keys() - {"seed", "name"}} | trained
    settings = {key: getattr(record, key) for key in ("kind", *SAME_WORK[type(record)])}
    if isinstance(record, Probing):  # of an encoder that may have been trained anew
        settings |= {key: value for key, value in record.asked.items() if key != "encoder"}
    return settings


def _rows(
    work: str, old: list[AnyRecord], new: list[AnyRecord], threshold: float, accuracy_threshold: float
) -> Iterator[Row]:
    old_metrics, new_metrics = (_by_name(side) for side in (old, new))
    seeds = [[record.seed for record in side if isinstance(record, Run)] for side in (old, new)]
    for name in (name for name in old_metrics if name in new_metrics):
        before, after = old_metrics[name], new_metrics[name]
        first = before[0]
        if first.images:
            cost, allowed = _accuracy_cost(before, after, paired=seeds[0] == seeds[1]), accuracy_threshold
        else:
            cost, allowed = bootstrap.unpaired_cost(_costs(before), _costs(after)), threshold
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
    """By run, samples that are better the less they are."""
    return [[1 / value if m.better == "more" else value for value in m.samples] for m in metrics]


def _accuracy_cost(old: list[Metric], new: list[Metric], paired: bool) -> Cost | None:
    """Over seeds, seed by seed where both sides have the same; beside a single seed it is that of the test images."""
    if min(len(old), len(new)) == 1:
        shares = [fmean(metric.samples[0] for metric in side) / 100 for side in (old, new)]
        return bootstrap.accuracy_cost(shares[0], old[0].images or 0, shares[1], new[0].images or 0)
    if paired:
        return bootstrap.paired_cost(*([1 / _above_0(metric) for metric in side] for side in (old, new)))
    return bootstrap.unpaired_cost(*([[1 / _above_0(metric)] for metric in side] for side in (old, new)))


def _above_0(accuracy: Metric) -> float:
    """In percent; an accuracy of 0 counts as half an image, since a ratio to 0 says nothing."""
    return max(accuracy.samples[0], 50 / (accuracy.images or 1))


def _by_name(side: list[AnyRecord]) -> dict[str, list[Metric]]:
    """By metric, the runs' samples, in the order of their seeds."""
    named: dict[str, list[Metric]] = defaultdict(list)
    for record in sorted(side, key=lambda record: record.seed if isinstance(record, Run) else 0):
        for metric in metrics(record):
            if metric.images or _has_ratio(metric):
                named[metric.name].append(metric)
    return dict(named)


def _has_ratio(metric: Metric) -> bool:
    """Whether its samples can be divided by others; one alone is shown even if it is 0, as no memory is."""
    if metric.better == "less" and len(metric.samples) == 1:
        return math.isfinite(metric.samples[0])
    return all(0 < sample < math.inf for sample in metric.samples)


def metrics(record: AnyRecord) -> Iterator[Metric]:
    """What is compared of a record, raw samples, without those that compile and warm up."""
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
    elif not isinstance(record, Theory):  # whose claims hold or fail
        if TWOVIEW in record.images_per_s:
            yield Metric("rate", "images/s", "more", record.images_per_s[TWOVIEW])
        if isinstance(record, LoaderRates):
            if TWOVIEW in record.first_batch_s:
                yield Metric("first batch", "s", "less", [record.first_batch_s[TWOVIEW]])
            if TWOVIEW in record.peak_mib:
                yield Metric("peak memory", "MiB", "less", [record.peak_mib[TWOVIEW]])


def _run_metrics(record: Run) -> Iterator[Metric]:
    if training := record.training:
        epochs = training.epoch_seconds
        warm = len(training.step_seconds) // (len(epochs) if len(epochs) > 1 else 10)  # steps that count for nothing
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
    """A sentence for each package whose version is another on the new side."""
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
