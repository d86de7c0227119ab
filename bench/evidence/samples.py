"""Evidence records as a table with one row per measured sample."""

import statistics
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twoview.bench.evidence.files import read_folder
from twoview.bench.evidence.records import AnyRecord, Claimed, DeviceFigures, Part, Probing, Record, Theory

if TYPE_CHECKING:
    import pandas as pd


def load(folder: Path | str) -> "pd.DataFrame":
    """Return all records of a folder as a tidy table with one row per sample.

    These columns describe the record (None if it has no such value): name, kind, created, machine, environment, commit,
    calibration_s (the median round), recipe, method, dataset, backbone, size, batch, epochs, subject, seed.
    These describe the sample:
    metric: the record's field (`step_seconds`, `images_per_s`, `knn_top1`), a figure's quantity, or a series of a
    claim.
    of: what was measured, where a record has several: a contestant (twoview or a peer), a probe, a value that the
    method logs, the work of a figure, or a claim.
    variant, unit: the variant and unit of a figure. Other metrics have the unit in their name.
    sample: the number of the sample, counted from 0.
    value: the sample as a float.
    Files that are damaged or are not records are skipped, with a warning that names them. Raises FileNotFoundError if
    the folder does not exist.
    """
    import pandas as pd

    records, complaints = read_folder(Path(folder))
    for complaint in complaints:
        warnings.warn(complaint, stacklevel=2)
    rows: list[tuple[Any, ...]] = []
    for record in records:
        of = tuple(whose(record).values())
        rows += [of + sample for sample in _samples_of(record)]
    counts = dict.fromkeys(("size", "batch", "epochs", "seed"), "Int64")
    return pd.DataFrame(rows, columns=RUN_COLUMNS + SAMPLE).astype({"value": float, **counts})


# The columns that describe the record, and those that describe the sample.
RUN_COLUMNS = ["name", "kind", "created", "machine", "environment", "commit", "calibration_s", "recipe", "method"]
RUN_COLUMNS += ["dataset", "backbone", "size", "batch", "epochs", "subject", "seed"]
SAMPLE = ["metric", "of", "variant", "unit", "sample", "value"]


def whose(record: AnyRecord) -> dict[str, Any]:
    """Return the values of RUN_COLUMNS for a record. A value of the recipe that has an unexpected type becomes None."""
    recipe = getattr(record, "recipe", None) or {}
    work = {name: getattr(record, name, None) for name in ("dataset", "size", "batch", "subject", "seed")}
    return {
        "name": record.name,
        "kind": record.kind,
        "created": record.created,
        "machine": record.environment.machine,
        "environment": record.environment.hash,
        "commit": record.environment.commit or None,
        "calibration_s": statistics.median(record.calibration_seconds) if record.calibration_seconds else None,
        "recipe": text_in(recipe, "name"),
        "method": text_in(recipe.get("method"), "name"),
        "dataset": text_in(recipe, "dataset") or work["dataset"],
        "backbone": text_in(recipe.get("backbone"), "name"),
        "size": _number_in(recipe, "size", work["size"]),
        "batch": _number_in(recipe, "batch", work["batch"]),
        "epochs": _number_in(recipe, "epochs"),
        "subject": work["subject"],
        "seed": _number_in(recipe, "seed", work["seed"]),
    }


def text_in(table: Any, key: str) -> str | None:
    """Return the text under `key` of a recipe's table, or `table` itself if it is text; None if there is no text.

    A method or a backbone, for example, is a table with a `name` or the name alone.
    """
    value = table.get(key) if isinstance(table, dict) else table
    return value if isinstance(value, str) else None


def _number_in(recipe: dict[str, Any], key: str, otherwise: int | None = None) -> int | None:
    """Return the whole number under `key`, or `otherwise` if there is none."""
    value = recipe.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


# The columns SAMPLE: metric, of, variant, unit, number, value.
Sample = tuple[str, str, str, str, int, float]


def _samples_of(record: AnyRecord) -> Iterator[Sample]:
    """Yield every measured number of a record: all numbers except those in the fields that describe the record."""
    about = {*Record.model_fields, "kind", "recipe", "overrides", "seed"}
    if isinstance(record, DeviceFigures):
        for figure in record.figures:
            for number, value in enumerate(figure.samples):
                yield figure.quantity, figure.work, figure.variant, figure.kind.unit, number, value
        return
    if isinstance(record, Theory):
        yield "seconds", "", "", "", 0, record.seconds
        for claim in record.claims:
            for title, values in _drawn(claim):
                yield from ((title, claim.name, "", "", *sample) for sample in enumerate(values))
        return
    for name, value in record:
        if name not in about:
            yield from _samples_in(value, name, record.probe if isinstance(record, Probing) else "")


def _drawn(claim: Claimed) -> Iterator[tuple[str, Iterable[float]]]:
    """Yield title and numbers of a claim's figures: curves, points one axis at a time, and grids row by row."""
    yield from claim.figure.items()
    for title, points in claim.scatter.items():
        yield from ((f"{title}, {axis}", values) for axis, values in points)
    for title, phase in claim.phase.items():
        yield title, chain(*phase.value)


def _samples_in(value: Any, metric: str, of: str) -> Iterator[Sample]:
    """Yield the numbers in `value`, at any depth.

    A field of a part of the record names the metric; a key of a table says what the number belongs to.
    """
    if isinstance(value, Part):
        for name, inner in value:
            yield from _samples_in(inner, name, of)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _samples_in(inner, metric, key)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            if isinstance(inner, list | tuple | Part | dict):
                yield from _samples_in(inner, metric, str(number))
            elif isinstance(inner, int | float):
                yield metric, of, "", "", number, inner
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield metric, of, "", "", 0, value
