"""Evaluation of one encoder on several datasets with several probes. Each result has a record.

Finished results are not recomputed, so that a second run continues where the first stopped.
"""

import hashlib
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from twoview.bench import evidence
from twoview.bench.config.differences import check_same
from twoview.bench.config.experiment import Place
from twoview.bench.config.recipe import Probe, in_a_file_name
from twoview.bench.data import availability
from twoview.bench.evaluation import probing
from twoview.bench.evaluation.encoders import Published
from twoview.bench.evaluation.judging import JUDGED_BY
from twoview.bench.evaluation.probing import BUDGETS, PROBES, Bench, Options
from twoview.bench.evidence import Probed, Probing
from twoview.bench.runtime.progress import console
from twoview.loaders.datasets import Dataset
from twoview.loaders.names import look_up

# The seven datasets of Assran et al. 2023, for which VISSL's linear probes have settings.
SEVEN = ("imagenet", "inat18", "cifar100", "clevr-count", "clevr-distance", "kitti-distance", "places205")

# The options that each probe's result depends on, in addition to the seed and the precision.
OPTIONS = {"end-to-end": {"protocol", "epochs", "batch"}, "fine-tune": {"epochs", "batch"}, "low-shot": {"splits"}}


@dataclass(frozen=True)
class Row:
    """The results on one dataset.

    probed: name of a result -> the result. missing, get: the missing parts of the dataset and how to get them, if it is
    not on this machine.
    """

    dataset: str
    probed: dict[str, Probed] = field(default_factory=dict)
    missing: str | None = None
    get: str | None = None

    @property
    def gaps(self) -> dict[str, float]:
        """Top-1 of the head trained end to end minus top-1 of each linear probe on features, in percentage points."""
        ends = [found.top1 for label, found in self.probed.items() if label.startswith("end-to-end")]
        on_features = [label for label in ("linear", "sgd-grid") if label in self.probed]
        return {label: ends[0] - self.probed[label].top1 for label in on_features if ends}


def transfer(
    encoder: Published,
    subjects: Iterable[Dataset],
    probes: Sequence[str],
    settings: Probe,
    options: Options,
    place: Place,
    folder: Path,
    recipe: dict[str, Any] | None = None,
) -> list[Row]:
    """Probe the encoder on each dataset and return a row per dataset.

    Each result is written to `folder` as a record as soon as it is known; if the record exists, it is read instead.

    subjects: the datasets. probes: names of probes. settings: the `[probe]` table. recipe: the encoder's recipe, if
    it was trained here; for records.
    Raises ValueError for an unknown probe, or if an existing record has another encoder or other settings.
    """
    for name in probes:
        look_up("probe", name, PROBES)
    rows = []
    for dataset in subjects:
        bench = Bench(encoder, dataset, settings, place, options)
        row = Row(dataset.name)
        for name in probes:
            paths = [evidence.path_of(folder, _record_name(bench, label)) for label in probing.labels(name, options)]
            if not all(path.exists() for path in paths):
                if missing := _missing(bench):
                    row = replace(row, missing=missing, get=availability.state(dataset, place.root)["get"])
                    break
                for label, found in probing.probe(bench, name):
                    _keep(bench, label, found, folder, recipe)
            for label, path in zip(probing.labels(name, options), paths, strict=True):
                row.probed[label] = _kept(bench, label, path).probed
        rows.append(row)
    return rows


def _missing(bench: Bench) -> str | None:
    """Return a message about the missing parts of the dataset, or None."""
    try:
        bench.used("train"), bench.used("test")
    except FileNotFoundError as error:
        return " ".join(str(error).split())
    return None


def _record_name(bench: Bench, label: str) -> str:
    """Return the name of a result's record. label: name of the result."""
    return f"probe-{bench.encoder.name}-{in_a_file_name(bench.dataset.name)}-{label}"


def _keep(bench: Bench, label: str, found: Probed, folder: Path, recipe: dict[str, Any] | None) -> None:
    """Write the record of a result, unless it exists, and print its top-1."""
    record = Probing(
        name=_record_name(bench, label),
        encoder=bench.encoder.name,
        encoder_hash=bench.encoder.hash,
        dataset=bench.dataset.name,
        size=bench.encoder.size,
        probe=label,
        probed=found,
        asked=_asked(bench, label),
        recipe=recipe,
        data=bench.data,
        left_out=bench.left_out,
    )
    if not evidence.path_of(folder, record.name).exists():
        evidence.write(record, folder)
    console.print(f"{bench.dataset.name}, {label}: {found.top1:.2f} %", markup=False)


def _kept(bench: Bench, label: str, path: Path) -> Probing:
    """Read the record of a result. Raises ValueError if it is for another encoder or other settings."""
    record = evidence.read(path)
    if not isinstance(record, Probing):
        raise ValueError(f"{path} is not the record of a probe: use another --evidence-dir")
    mine = _asked(bench, label)
    theirs = {key: record.asked.get(key) for key in mine}
    check_same(mine, theirs, str(path), "use another --evidence-dir")
    return record


def _asked(bench: Bench, label: str) -> dict[str, Any]:
    """Return everything that a result depends on, apart from the data. label: name of the result."""
    used = {"seed", "precision"}.union(*(more for name, more in OPTIONS.items() if label.startswith(name)))
    asked = {key: value for key, value in asdict(bench.options).items() if key in used}
    for path in bench.options.lists:
        if label == f"low-shot-{path.stem}":
            asked["list"] = hashlib.sha256(path.read_bytes()).hexdigest()
    probe = bench.settings.model_dump(mode="json", include=JUDGED_BY)
    return {"encoder": bench.encoder.hash, "size": bench.encoder.size, **probe, **asked}


def as_result(encoder: Published, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the rows ready for JSON, each result with the budget that a paper spent on the same probe."""
    return {
        "encoder": encoder.name,
        "encoder_hash": encoder.hash,
        "source": encoder.source,
        "size": encoder.size,
        "datasets": {
            row.dataset: {
                "probes": {
                    label: found.model_dump(mode="json") | {"budget": _budget(label)}
                    for label, found in row.probed.items()
                },
                "gap_to_end_to_end": row.gaps,
                "missing": row.missing,
                "get": row.get,
            }
            for row in rows
        },
    }


def text(encoder: Published, rows: Sequence[Row]) -> str:
    """Return the rows as a text table; below it, the gaps, and how to get each missing dataset."""
    cells: list[tuple[str, str, Probed | None]] = []
    notes = []
    for row in rows:
        cells += [(row.dataset, label, found) for label, found in row.probed.items()]
        if row.missing:
            cells.append((row.dataset, "", None))
            notes.append(f"{row.dataset} is missing: {row.missing}" + (f"; to get it: {row.get}" if row.get else ""))
        for label, gap in row.gaps.items():
            notes.append(f"{row.dataset}: end-to-end top-1 minus {label}: {gap:+.2f} points")
    return "\n".join([f"{encoder.name}, {encoder.size} px", *table("dataset", cells), *notes])


def table(first: str, cells: Sequence[tuple[str, str, Probed | None]]) -> list[str]:
    """Return lines of text: a table with a line for each tuple in `cells`, then what papers spent on the same probes.

    first: heading of the first column. cells: tuples (content of the first column, name of the result, result).
    """
    lines: list[tuple[str, ...]] = [
        (
            first,
            "probe",
            "top-1 (%)",
            "95% interval",
            "top-5 (%)",
            "class mean (%)",
            "SD over splits",
            "time (s)",
            "memory (MiB)",
        ),
        *((what, label, *(_cells(found) if found else ())) for what, label, found in cells),
    ]
    width = [max(len(line[column]) for line in lines if column < len(line)) for column in range(len(lines[0]))]
    spent = [(label, BUDGETS[label]) for label in sorted({label for _, label, _ in cells} & BUDGETS.keys())]
    return [
        *("  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=False)).rstrip() for line in lines),
        *(f"{label}: {one.hours:.3g} h and {one.memory_gib:g} GB ({one.provenance})" for label, one in spent),
    ]


def _cells(found: Probed) -> tuple[str, ...]:
    """Return the cells of a result, from top-1 to memory."""
    classes = [value for value in found.per_class if value is not None]
    memory = found.peak_host_mib if found.peak_device_mib is None else found.peak_device_mib
    return (
        f"{found.top1:.2f}",
        f"{found.interval[0]:.2f} to {found.interval[1]:.2f}",
        "" if found.top5 is None else f"{found.top5:.2f}",
        f"{statistics.mean(classes):.2f}",
        "" if found.spread is None else f"{found.spread:.2f}",
        f"{found.seconds + (found.features_seconds or 0):.1f}",
        f"{memory:.0f}",
    )


def _budget(label: str) -> dict[str, Any] | None:
    """Return what a paper spent on the probe with this name, or None if no paper reports it."""
    return BUDGETS[label].model_dump(mode="json", exclude_none=True) if label in BUDGETS else None
