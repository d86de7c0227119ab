"""Records as a table: a row a sample."""

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
    """All records of a folder as a tidy table: a row a sample, and in every row whose it is.

    name, kind, created, machine, environment, commit, calibration_s (the median round), recipe, method, dataset,
    backbone, size, batch, epochs, subject, seed: of the record, None where it has no such thing. Then the sample:
    metric, the record's own word for it (`step_seconds`, `images_per_s`, `knn_top1`), or a figure's quantity, or a
    series of a claim's; of, whose, as a contestant, a probe, what a method logs, the work of a figure, or a claim;
    variant and unit, of a figure: the others have the unit in their name; sample, its number; value, as float.
    Files that are damaged or foreign are passed over, with a warning that names them. FileNotFoundError without the
    folder.
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


RUN_COLUMNS = ["name", "kind", "created", "machine", "environment", "commit", "calibration_s", "recipe", "method"]
RUN_COLUMNS += ["dataset", "backbone", "size", "batch", "epochs", "subject", "seed"]
SAMPLE = ["metric", "of", "variant", "unit", "sample", "value"]


def whose(record: AnyRecord) -> dict[str, Any]:
    """The columns RUN_COLUMNS. What a recipe has of another type than recipes do is none."""
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
    """Of a recipe, whose methods and backbones may also be their name alone; None where there is no text."""
    value = table.get(key) if isinstance(table, dict) else table
    return value if isinstance(value, str) else None


def _number_in(recipe: dict[str, Any], key: str, otherwise: int | None = None) -> int | None:
    value = recipe.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


Sample = tuple[str, str, str, str, int, float]


def _samples_of(record: AnyRecord) -> Iterator[Sample]:
    """Every number of a record but those that say what it is of."""
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
    """The numbers of a claim's figures: lines, points an axis at a time, grids row by row."""
    yield from claim.figure.items()
    for title, points in claim.scatter.items():
        yield from ((f"{title}, {axis}", values) for axis, values in points)
    for title, phase in claim.phase.items():
        yield title, chain(*phase.value)


def _samples_in(value: Any, metric: str, of: str) -> Iterator[Sample]:
    """Parts of a record give the metric its name, and keys of a table say whose it is."""
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
