"""The record of a run: raw samples, environment, commit and recipe, enough to recompute every number shown.

One JSON file a run, written whole or not at all, never rewritten. Seven kinds: `run` (an encoder or a baseline and its
accuracies), `probe` (one probe of any encoder on any dataset), `loader` (the rates of a loader and of its peers on the
same work), `convert` (the same of writing beton files), `probe-cost` (a probe and its peer on the same features),
`device` (what a step of `twoview suite gpu` measured) and `theory` (claims of the papers beside measurements).
`evidence.schema.json` is the schema that others may check them by (`twoview evidence --schema`). Version 2 adds what
`write` seals: the checksum, the machine's calibration and clocks; version 1 is read as ever.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import statistics
import struct
import warnings
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from twoview.bench.calibration import Calibration
from twoview.bench.environment import Environment, environment, frequencies
from twoview.bench.escapes import csv_cell, csv_value
from twoview.bench.theory import claims
from twoview.bench.theory.claims import Claim, Verdict
from twoview.loaders import limits
from twoview.loaders.files import whole_file
from twoview.loaders.limits import RECORD_BYTES, VALUES, Limit
from twoview.methods.settings import Text, first_fault

if TYPE_CHECKING:
    import pandas as pd

CALIBRATION_ROUNDS = 5
REASON = 300  # characters of an error that nobody foresaw
DEPTH = 20  # of tables in tables; records have 7
NAME = re.compile(r"[A-Za-z0-9_%-][A-Za-z0-9._%-]*")  # a share of labels has a percent sign
YEARS = range(1970, 2200)  # 1970: of a machine whose clock was never set


class Part(BaseModel):
    """A piece of a record; an unknown key means a foreign or newer file and is an error."""

    # A diverged run has a loss of NaN, which plain JSON would turn into null.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


def checked_name(name: str) -> str:
    """The record's name, which is its file's: never a path. It is made of other names, and may be as long as two.

    ValueError unless it is of ASCII letters, digits and `._%-`, with no dot in front.
    """
    most = 2 * limits.NAME.value
    if len(name) > most:
        raise ValueError(f"the name of a record must have at most {most:,} characters, got {len(name):,}")
    if not NAME.fullmatch(name):
        raise ValueError(
            "the name of a record must be of ASCII letters, digits and the characters . _ % - "
            f"and not begin with a dot, got {name!r}"
        )
    return name


def _is_a_word(text: str) -> str:
    if fault := limits.NAME.fault(len(text)):
        raise ValueError(fault)
    return text


def _is_of_this_age(created: datetime) -> datetime:
    if created.year not in YEARS:
        raise ValueError(f"must lie in the years {YEARS[0]} to {YEARS[-1]}, got {created.year}")
    return created


def _is_drawable(number: float) -> float:
    if math.isinf(number) or abs(number) > 1e24:
        raise ValueError("must lie within -1e24 and 1e24, or be NaN")
    return number


def _is_free(table: dict[str, Any]) -> dict[str, Any]:
    """What anything may be in: only so much of it."""
    _bounded(table)
    VALUES.check(_values_in(table), "such a table")
    return table


def _values_in(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_values_in, value.values()))
    return 1 + sum(map(_values_in, value)) if isinstance(value, list | tuple) else 1


def _bounded(value: Any, depth: int = 0) -> None:
    """ValueError where texts are too long, tables too deep or whole numbers too large, wherever in a record."""
    if depth > DEPTH:
        raise ValueError(f"tables must lie at most {DEPTH} deep in each other")
    if isinstance(value, str):
        limits.TEXT.check(len(value), "a text")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number must fit into 64 bits")
    elif isinstance(value, dict):
        for key, inner in value.items():
            limits.TEXT.check(len(key), "a key")
            _bounded(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _bounded(inner, depth + 1)


# Beyond what any machine has, and so far from the last float that sums, products and the axes of plots stay finite.
Amount = Annotated[float, Field(ge=0, le=1e24, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=1e-24, le=1e24, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-1e24, le=1e24, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**53)]  # so that it is a float, too
PositiveCount = Annotated[int, Field(gt=0, lt=2**53)]
Samples = Annotated[list[Positive], Field(min_length=1)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Word = Annotated[str, AfterValidator(_is_a_word)]  # that names something beside others: a row, a line of a plot
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Free = Annotated[dict[str, Any], AfterValidator(_is_free)]
SOME, MANY, A_SIDE = 100, 10_000, 50  # items of what is drawn one by one: contestants, panels; points; a grid's rows
Number = Annotated[float, AfterValidator(_is_drawable)]
Points = Annotated[list[Number], Field(min_length=1, max_length=MANY)]
Side = Annotated[list[Finite], Field(min_length=1, max_length=A_SIDE)]
Rounds = Annotated[list[Positive], Field(min_length=1, max_length=MANY)]
T = TypeVar("T")
Contestants = Annotated[dict[Word, T], Field(max_length=SOME)]


class Training(Part):
    """What the trainer measured.

    epoch_seconds, wait_seconds: wall seconds of each epoch, and of those the seconds spent waiting for a batch.
    losses: the loss of every step. Views counts every view of every image, so SimCLR has two an image.
    logged: what else the method logs (an accuracy, a prototype bias, terms of the loss), the mean of each epoch.
    sizes: side of the views in each epoch, in pixels, where it grows (`[progressive]`); else the recipe says it.
    rank_wait_seconds: wait_seconds of every rank, where there are several; the other clocks are the first rank's.
    damaged_images: how many images could not be decoded and had another put in their place.
    step_seconds: of every step, without the wait for its batch; the first ones compile and warm up.
    step_flops: of a step's forward and backward pass, counted. matrix_flops_per_s: what the device reaches in a large
    matrix product of the precision, one number a round. joules: of device or processors, where they count them.
    online_seconds: of a step of the linear head that learns beside the training, measured by itself, a number a repeat.
    """

    epoch_seconds: Samples
    wait_seconds: list[Amount]
    views_per_epoch: PositiveCount
    losses: list[float]
    precision: Literal["fp32", "bf16", "fp16"]
    device: Word
    loader_threads: Count
    model_threads: Count
    peak_host_mib: Positive
    peak_device_mib: Amount | None = None
    logged: dict[Word, list[float]] = {}
    sizes: list[PositiveCount] = []
    rank_wait_seconds: list[list[Amount]] = []
    damaged_images: Count = 0
    step_seconds: list[Positive] = []
    step_flops: Count | None = None
    matrix_flops_per_s: list[Positive] = []
    peak_device_reserved_mib: Amount | None = None
    joules: Amount | None = None
    online_seconds: list[Amount] = []

    @property
    def seconds_per_epoch(self) -> float:
        return self._typical(self.epoch_seconds)

    @property
    def views_per_s(self) -> float:
        return self.views_per_epoch / self.seconds_per_epoch

    @property
    def mfu(self) -> float | None:
        """Model FLOPs a second in the typical step, as a share of the measured matrix product's."""
        if not (self.step_flops and self.step_seconds and self.matrix_flops_per_s):
            return None
        return self.step_flops / self._typical(self.step_seconds) / statistics.median(self.matrix_flops_per_s)

    def _typical(self, seconds: list[float]) -> float:
        """The median; the mean where the views grow, since the median would be that of one size."""
        return statistics.mean(seconds) if self.sizes else statistics.median(seconds)

    @property
    def loss_hash(self) -> str:
        """Sixteen hex digits of the losses, to the bit: what a change that must not change a thing leaves alone."""
        return hashlib.sha256(struct.pack(f"<{len(self.losses)}d", *self.losses)).hexdigest()[:16]

    @property
    def online_share(self) -> float | None:
        """Of the training's time, what the probes beside it took: the head in every step, kNN after some epochs."""
        knn = self.logged.get("online_knn_seconds", [])
        if not (self.online_seconds or knn):
            return None
        head = len(self.losses) * statistics.median(self.online_seconds) if self.online_seconds else 0.0
        return (head + sum(knn)) / sum(self.epoch_seconds)

    @property
    def data_wait_share(self) -> float:
        return sum(self.wait_seconds) / sum(self.epoch_seconds)


class Ceilings(Part):
    """Rates the training is held against, one number a round: the loader alone, the model alone on resident data."""

    loader_views_per_s: Samples
    model_views_per_s: Samples

    @property
    def loader(self) -> float:
        return statistics.median(self.loader_views_per_s)

    @property
    def model(self) -> float:
        return statistics.median(self.model_views_per_s)

    def efficiency(self, real_views_per_s: float) -> float:
        """Real rate over the smaller ceiling."""
        return real_views_per_s / min(self.loader, self.model)

    @property
    def bottleneck(self) -> str:
        return "loader" if self.loader < self.model else "model"


class Probed(Part):
    """What a probe found, in percent, and what it cost.

    top5: None with five classes or fewer. per_class: None for a class without test images. interval: of top1, at 95 %,
    by the percentile bootstrap over the test images. spread: standard deviation of top1, where there are several
    splits; the other figures are then their means. seconds: of wall time without the features', which are extracted
    once for all probes on features and took features_seconds. settings: what was given and what the probe chose.
    """

    top1: Percent
    top5: Percent | None
    per_class: list[Percent | None]
    interval: tuple[Percent, Percent]
    train_images: Count
    test_images: PositiveCount
    seconds: Amount
    features_seconds: Amount | None = None
    peak_host_mib: Amount
    peak_device_mib: Amount | None = None
    spread: Amount | None = None
    settings: Free = {}


class Accuracy(Part):
    """Top-1 of the frozen representation, in percent, and on how many images.

    probes: all that was found, by the probe's name; empty in records older than it.
    """

    knn_top1: Percent
    linear_top1: Percent
    train_images: Count
    test_images: PositiveCount
    probes: dict[Word, Probed] = {}


class LeftOut(Part):
    """Images that could not be read as a beton file was converted: how many, and the names of the first 1,000."""

    images: PositiveCount
    names: Annotated[list[Text], Field(max_length=MANY)]


class Record(Part):
    """What every record says. name: the file's stem, unique within a folder of evidence.

    data: of each beton file that was read, by its stem, the XXH64 of its index, which holds every sample's.
    left_out: of each of them that lacks images, which.
    calibration_seconds, mhz: of a fixed piece of work on every core, a number a round, and the clocks of processor and
    GPU right behind it, as the record was written. sha256: of all else, by `checksum`.
    """

    schema_version: Literal[1, 2] = 2
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$"), AfterValidator(checked_name)]
    created: Annotated[AwareDatetime, AfterValidator(_is_of_this_age)] = Field(
        default_factory=lambda: datetime.now(UTC)
    )
    environment: Environment = Field(default_factory=environment)
    data: dict[Text, Text] = {}
    left_out: dict[Text, LeftOut] = {}
    calibration_seconds: list[Positive] = []
    mhz: dict[Word, Finite] = {}
    sha256: Text | None = None


class Run(Record):
    """One encoder, or one baseline, and its accuracies.

    subject: `trained` by the recipe's method; `untrained`, the same encoder at its first step; `pixels`, no encoder.
    recipe: the validated recipe with every override applied; `source` says where its values come from. overrides: what
    of it is not as in the recipe file of its name, by key; None where it was not asked or there is no such file.
    """

    kind: Literal["run"] = "run"
    subject: Literal["trained", "untrained", "pixels"]
    recipe: Free
    seed: Seed
    accuracy: Accuracy
    training: Training | None = None
    ceilings: Ceilings | None = None
    overrides: Free | None = None


class Probing(Record):
    """One probe of one encoder on one dataset. encoder: its name; encoder_hash: of structure, weights, normalisation.

    size: side of an image, in pixels. asked: all settings that the outcome depends on. recipe: that the encoder was
    trained by, None for one that others published.
    """

    kind: Literal["probe"] = "probe"
    encoder: Text
    encoder_hash: Word
    dataset: Word
    size: Count
    probe: Text
    probed: Probed
    asked: Free
    recipe: Free | None = None


class LoaderRates(Record):
    """The same work done by twoview and its peers in turn: one rate a round, in source images a second.

    images, batch: of one pass, and of one batch of it. A file with fewer images is gone through several times.
    images_per_s, first_batch_s: by contestant. first_batch_s: seconds from making the loader to its first batch, torch
    and numba imported already; first_batch_empty_cache_s: ours with no compiled kernel on disk.
    peak_mib, added_mib: by contestant, the peak resident memory of its process once everything is imported (worker
    processes of its own not counted), and what of it came after the imports. batch_mib: the views of one batch.
    notes: by contestant, what it did otherwise than asked, or why it is absent.
    """

    kind: Literal["loader"] = "loader"
    beton: Text
    views: Word
    size: Count
    views_per_image: Count
    images: Count
    threads: Count
    images_per_s: Contestants[Rounds]
    first_batch_s: Contestants[Amount]
    notes: Contestants[Text] = {}
    batch: Count | None = None
    first_batch_empty_cache_s: Amount | None = None
    peak_mib: Contestants[Amount] = {}
    added_mib: Contestants[Finite] = {}
    batch_mib: Amount | None = None


class ConvertRates(Record):
    """The same folder of JPEG files written to a beton file by twoview and its peers in turn, in images a second."""

    kind: Literal["convert"] = "convert"
    dataset: Text
    images: Count
    threads: Count
    images_per_s: Contestants[Rounds]
    notes: Contestants[Text] = {}


class ProbeCost(Record):
    """A probe and its peer on the same features, made from a seed, in turn: what it took, and what they found.

    train, test, dim, classes: of the features. settings: the probe's.
    seconds: by contestant, a number a round, from the features to the accuracy. added_mib: by contestant, the peak
    resident memory beyond the features. top1: by contestant, in percent. notes: by contestant, why it is absent.
    """

    kind: Literal["probe-cost"] = "probe-cost"
    probe: Literal["knn", "linear"]
    train: PositiveCount
    test: PositiveCount
    dim: PositiveCount
    classes: PositiveCount
    threads: PositiveCount
    settings: Contestants[Finite]
    seconds: Contestants[Rounds]
    added_mib: Contestants[Finite]
    top1: Contestants[Percent]
    notes: Contestants[Text] = {}


class Figure(Part):
    """One figure of a device: its samples in `unit`; none where it was not reached, and `note` says why.

    work: what was done, in words. tolerance: what no sample of a check may exceed. note: what a reader has to know,
    such as the measured step that a projection comes from. course: samples of one thing as it went on, not repeats.
    """

    work: Text
    figure: Text
    unit: Word
    samples: list[float]
    note: Text = ""
    tolerance: Amount | None = None
    course: bool = False

    @property
    def median(self) -> float:
        """NaN without samples."""
        return statistics.median(self.samples) if self.samples else math.nan

    @property
    def off(self) -> bool:
        """Whether a check failed; a sample that is not a number fails it."""
        return self.tolerance is not None and not all(sample <= self.tolerance for sample in self.samples)


class DeviceFigures(Record):
    """What one step of `twoview suite gpu` measured. recipe: what was trained, where the step trains one.

    stopped: why the step did not come to its end; the figures are those that it had by then. Empty if it did.
    """

    kind: Literal["device"] = "device"
    device: Word
    figures: Annotated[list[Figure], Field(max_length=MANY)]
    recipe: Free | None = None
    stopped: Text = ""

    def plus(self, *figures: Figure) -> "DeviceFigures":
        """The record with more figures."""
        return self.model_copy(update={"figures": [*self.figures, *figures]})


class Scatter(Part):
    """Points of a plane, rounded to be drawn, one at least. label: each point's class or cluster."""

    x: Points
    y: Points
    label: Annotated[list[Seed], Field(min_length=1, max_length=MANY)]

    @model_validator(mode="after")
    def _are_points(self) -> Self:
        if len({len(self.x), len(self.y), len(self.label)}) > 1:
            raise ValueError(
                f"x, y and label must be of one length, got {len(self.x)}, {len(self.y)}, {len(self.label)}"
            )
        return self

    @classmethod
    def of(cls, points: claims.Scatter) -> "Scatter":
        return cls(x=_rounded(points.x), y=_rounded(points.y), label=points.label.tolist())


class Phase(Part):
    """A measure over a grid of two parameters, rounded to be drawn. value: a row for each y, a column for each x."""

    x_name: Word
    x: Side
    y_name: Word
    y: Side
    value: list[list[Number]]

    @model_validator(mode="after")
    def _is_a_grid(self) -> Self:
        if len(self.value) != len(self.y) or any(len(row) != len(self.x) for row in self.value):
            raise ValueError(f"value must have {len(self.y)} rows, one for each y, of {len(self.x)}, one for each x")
        return self

    @classmethod
    def of(cls, phase: claims.Phase) -> "Phase":
        x, y, value = phase.x.tolist(), phase.y.tolist(), [_rounded(row) for row in phase.value]
        return cls(x_name=phase.x_name, x=x, y_name=phase.y_name, y=y, value=value)


def _rounded(values: Iterable[float]) -> list[float]:
    """To four digits: a record of many points stays small."""
    return [float(f"{value:.4g}") for value in values]


class Claimed(Part):
    """A claim and what was measured of it, as in `twoview.bench.theory.claims.Claim`.

    figure: series of one length, by name. scatter, phase: panels, by title.
    """

    name: Text
    source: Text
    measured: Text
    expected: Text
    verdict: Verdict
    figure: Contestants[Points] = {}
    scatter: Contestants[Scatter] = {}
    phase: Contestants[Phase] = {}

    @model_validator(mode="after")
    def _series_match(self) -> Self:
        if len(lengths := {len(values) for values in self.figure.values()}) > 1:
            raise ValueError(
                f"the series of a figure must be of one length, got {', '.join(map(str, sorted(lengths)))}"
            )
        return self

    @classmethod
    def of(cls, claim: Claim) -> "Claimed":
        drawn = {
            "figure": {name: values.tolist() for name, values in claim.figure.items()},
            "scatter": {title: Scatter.of(points) for title, points in claim.scatter.items()},
            "phase": {title: Phase.of(phase) for title, phase in claim.phase.items()},
        }
        return cls(**vars(claim) | drawn)


class Theory(Record):
    """The claims that one experiment of `twoview suite theory` measured, and in how many seconds."""

    kind: Literal["theory"] = "theory"
    claims: list[Claimed] = Field(min_length=1, max_length=SOME)
    seconds: Positive


AnyRecord = Run | Probing | LoaderRates | ConvertRates | ProbeCost | DeviceFigures | Theory
ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


def path_of(folder: Path, name: str) -> Path:
    """Of the record of that name. ValueError if it cannot be the name of one."""
    return folder / f"{checked_name(name)}.json"


def schema() -> str:
    """The JSON schema of every kind of record, as text."""
    return json.dumps(ADAPTER.json_schema(), indent=1, sort_keys=True) + "\n"


def checksum(content: dict[str, Any]) -> str:
    """SHA-256 of a record's content without its own `sha256`: as JSON with sorted keys, no spaces, in ASCII."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write(record: AnyRecord, folder: Path) -> Path:
    """Writes the record into the folder, with the machine's calibration and its checksum.

    FileExistsError if one of that name is there, or another process is first: evidence is never rewritten.
    """
    path = path_of(folder, record.name)
    if path.exists():
        raise FileExistsError(f"{path} exists; evidence is never rewritten")
    with Calibration() as work:
        seconds = [work.seconds() for _ in range(CALIBRATION_ROUNDS)]
    try:
        with whole_file(path, first=True) as part:
            part.write_text(_sealed(record.model_copy(update={"calibration_seconds": seconds, "mhz": frequencies()})))
    except FileExistsError:
        raise FileExistsError(f"{path} exists; evidence is never rewritten") from None
    return path


def write_part(record: AnyRecord, folder: Path) -> Path:
    """Writes what there is of a record whose measurement goes on, in the place of what there was of it before.

    Nothing is calibrated, which would disturb the measurement.
    """
    path = path_of(folder, record.name)
    with whole_file(path) as part:
        part.write_text(_sealed(record))
    return path


def _sealed(record: AnyRecord) -> str:
    """As JSON with its checksum."""
    content = json.loads(record.model_copy(update={"sha256": None}).model_dump_json())
    _bounded(content)
    return json.dumps(content | {"sha256": checksum(content)}, indent=1) + "\n"


def read(path: Path) -> AnyRecord:
    """Reads one record. ValueError, naming the file, if it is damaged or not ours, or asks for more than the limits."""
    text = bytes_of(path)
    try:
        record = ADAPTER.validate_json(text)
        content = json.loads(text)
        _bounded(content)
    except ValidationError as error:
        raise ValueError(f"{path} is not an evidence record of twoview: {first_fault(error)}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not an evidence record of twoview: {error}") from None
    if record.name != path.stem:
        raise ValueError(f"{path} holds the record {record.name}: a copy, or renamed")
    if record.schema_version > 1 and record.sha256 != checksum(content):
        raise ValueError(f"{path} is damaged: its checksum is not that of its content")
    return record


def bytes_of(path: Path, most: Limit = RECORD_BYTES) -> bytes:
    """Of a file that a record can be. It is asked what it is once it is open, so that nothing comes in between.

    A pipe is neither waited for nor read, nor is anything else that is no file: ValueError.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path} must be a file, and is a pipe or a device")
        most.check(about.st_size, str(path))
        return file.read(most.value)


def read_folder(folder: Path) -> tuple[list[AnyRecord], list[str]]:
    """All records of a folder and its subfolders, and one sentence for each file that is damaged or foreign."""
    records, complaints = [], []
    for path in paths(folder):
        try:
            records.append(read(path))
        except (ValueError, OSError) as error:
            complaints.append(reason(error))
    return records, complaints


def reason(error: Exception) -> str:
    """What went wrong with a record, on one line and without what Python puts in front of it."""
    if isinstance(error, ValidationError):
        return first_fault(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__} {text[:REASON]}".rstrip()


def paths(folder: Path) -> list[Path]:
    """Of all that may be records, in order. FileNotFoundError without the folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of evidence at {folder}")
    return sorted(folder.rglob("*.json"))


def load(folder: Path | str) -> "pd.DataFrame":
    """All records of a folder as a tidy table: a row a sample, and in every row whose it is.

    name, kind, created, machine, environment, commit, calibration_s (the median round), recipe, method, dataset,
    backbone, size, batch, epochs, subject, seed: of the record, None where it has no such thing. Then the sample:
    metric, the record's own word for it (`step_seconds`, `images_per_s`, `knn_top1`), or the figure, or a series of a
    claim's; of, whose, as a contestant, a probe, what a method logs, the work of a figure, or a claim; unit, of a
    figure: the others have it in their name; sample, its number; value, as float.
    Files that are damaged or foreign are passed over, with a warning that names them. FileNotFoundError without the
    folder.
    """
    import pandas as pd

    records, complaints = read_folder(Path(folder))
    for complaint in complaints:
        warnings.warn(complaint, stacklevel=2)
    rows: list[tuple[Any, ...]] = []
    for record in records:
        whose = tuple(_whose(record).values())
        rows += [whose + sample for sample in _samples_of(record)]
    counts = dict.fromkeys(("size", "batch", "epochs", "seed"), "Int64")
    return pd.DataFrame(rows, columns=WHOSE + SAMPLE).astype({"value": float, **counts})


WHOSE = ["name", "kind", "created", "machine", "environment", "commit", "calibration_s", "recipe", "method", "dataset"]
WHOSE += ["backbone", "size", "batch", "epochs", "subject", "seed"]
SAMPLE = ["metric", "of", "unit", "sample", "value"]


def _whose(record: AnyRecord) -> dict[str, Any]:
    """The columns WHOSE. What a recipe has of another type than recipes do is none."""
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


Sample = tuple[str, str, str, int, float]


def _samples_of(record: AnyRecord) -> Iterator[Sample]:
    """Every number of a record but those that say what it is of."""
    about = {*Record.model_fields, "kind", "recipe", "overrides", "seed"}
    if isinstance(record, DeviceFigures):
        for figure in record.figures:
            yield from ((figure.figure, figure.work, figure.unit, *sample) for sample in enumerate(figure.samples))
        return
    if isinstance(record, Theory):
        yield "seconds", "", "", 0, record.seconds
        for claim in record.claims:
            for title, values in _drawn(claim):
                yield from ((title, claim.name, "", *sample) for sample in enumerate(values))
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
                yield metric, of, "", number, inner
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield metric, of, "", 0, value


INDEX = "index.csv"
INDEXED = ["file", "bytes", "changed_ns", "name", "kind", "created", "machine", "recipe", "seed", "sha256", "complaint"]


def index(folder: Path) -> "pd.DataFrame":
    """What a folder holds, a row a file: whose record, or `complaint`, why it is none. All columns are text.

    It is kept there as index.csv, which nothing depends on: a file that it lacks, or has with another size or time of
    change, is read, one that is gone is dropped. Where the folder cannot be written, it is not kept.
    """
    import pandas as pd

    kept, known = folder / INDEX, {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        before = pd.read_csv(BytesIO(bytes_of(kept)), dtype=str, keep_default_na=False)[INDEXED].map(csv_value)
        known = {tuple(row[key] for key in INDEXED[:3]): row for row in before.to_dict("records")}
    rows = []
    for path in paths(folder):
        key = (str(path.relative_to(folder)), *_changed(path))
        rows.append(known.get(key) or dict(zip(INDEXED, key, strict=False)) | _entry(path))
    now = pd.DataFrame(rows, columns=INDEXED, dtype=object).fillna("")
    if list(known.values()) != now.to_dict("records"):
        with contextlib.suppress(PermissionError), whole_file(kept) as part:
            now.map(csv_cell).to_csv(part, index=False)
    return now


def _changed(path: Path) -> tuple[str, str]:
    """A file's size and time of change; empty where a link leads nowhere."""
    try:
        about = path.stat()
    except OSError:
        return "", ""
    return str(about.st_size), str(about.st_mtime_ns)


def _entry(path: Path) -> dict[str, str]:
    """A file's columns of the index."""
    try:
        record = read(path)
    except (ValueError, OSError) as error:
        return {"complaint": reason(error)}
    whose = {key: "" if value is None else str(value) for key, value in _whose(record).items()}
    return {key: whose[key] for key in INDEXED if key in whose} | {"sha256": record.sha256 or ""}
