"""The record of a run: raw samples, environment, commit and recipe, enough to recompute every number shown.

One JSON file a run, written whole or not at all, never rewritten. Seven kinds: `run` (an encoder or a baseline and its
accuracies), `probe` (one probe of any encoder on any dataset), `loader` (the rates of a loader and of its peers on the
same work), `convert` (the same of writing beton files), `probe-cost` (a probe and its peer on the same features),
`device` (what a step of `twoview suite gpu` measured) and `theory` (claims of the papers beside measurements).
`schema.json` is the schema that others may check them by (`twoview evidence --schema`). Version 2 adds what
`write` seals: the checksum, the machine's calibration and clocks; in version 3 a device's figure says its quantity
instead of a label. Versions 1 and 2 are read as ever.
"""

import hashlib
import json
import math
import re
import statistics
import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

from twoview.bench.evidence import claims, labels
from twoview.bench.evidence.claims import Claim, Verdict
from twoview.bench.evidence.quantities import KINDS, Kind, Quantity
from twoview.bench.measurement.environment import Environment, environment
from twoview.loaders import limits
from twoview.loaders.limits import VALUES
from twoview.methods.settings import Text

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
    bounded(table)
    VALUES.check(_values_in(table), "such a table")
    return table


def _values_in(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_values_in, value.values()))
    return 1 + sum(map(_values_in, value)) if isinstance(value, list | tuple) else 1


def bounded(value: Any, depth: int = 0) -> None:
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
            bounded(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            bounded(inner, depth + 1)


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

    schema_version: Literal[1, 2, 3] = 3
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
    """One probe of one encoder on one dataset. encoder: its name; encoder_hash: of structure, weights, normalization.

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
    """One figure of a device: samples of a quantity, in the quantity's unit; none where it was not reached, and `note`
    says why.

    work: what was done, in words. variant: which one, where a work has several of a quantity, as `85` of times to an
    accuracy of 85 %, or the library of rates beside each other; else empty. tolerance: what no sample of a check may
    exceed. note: what a reader has to know, such as the measured step that a projection comes from.
    """

    work: Text
    quantity: Quantity = Field(json_schema_extra={"units": {name: kind.unit for name, kind in KINDS.items()}})
    variant: Word = ""
    samples: list[float]
    note: Text = ""
    tolerance: Amount | None = None

    @property
    def kind(self) -> Kind:
        return KINDS[self.quantity]

    @property
    def name(self) -> str:
        """The quantity and its variant in words."""
        words = self.quantity.replace("_", " ")
        return f"{words}, {self.variant}" if self.variant else words

    @property
    def median(self) -> float:
        """NaN without samples."""
        return statistics.median(self.samples) if self.samples else math.nan

    @property
    def off(self) -> bool:
        """Whether a check failed; a sample that is not a number fails it."""
        return self.tolerance is not None and not all(sample <= self.tolerance for sample in self.samples)


class LabeledFigure(Part):
    """A figure as schema versions 1 and 2 have it: a label, in `figure`, says what was measured."""

    work: Text
    figure: Text
    unit: Word
    samples: list[float]
    note: Text = ""
    tolerance: Amount | None = None
    course: bool = False

    def measured(self) -> Figure:
        """ValueError for a label or a unit that no version wrote."""
        quantity, variant = labels.meant(self.figure)
        if self.unit != (unit := KINDS[quantity].unit):
            raise ValueError(f"unit of {self.figure} must be {unit}, got {self.unit!r}")
        return Figure(
            work=self.work,
            quantity=quantity,
            variant=variant,
            samples=self.samples,
            note=self.note,
            tolerance=self.tolerance,
        )


def _measured(figure: Any) -> Any:
    labeled = isinstance(figure, dict) and "figure" in figure
    return LabeledFigure.model_validate(figure).measured() if labeled else figure


AnyFigure = Annotated[Figure, BeforeValidator(_measured, json_schema_input_type=Figure | LabeledFigure)]


class DeviceFigures(Record):
    """What one step of `twoview suite gpu` measured. recipe: what was trained, where the step trains one.

    stopped: why the step did not come to its end; the figures are those that it had by then. Empty if it did.
    """

    kind: Literal["device"] = "device"
    device: Word
    figures: Annotated[list[AnyFigure], Field(max_length=MANY)]
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
    """A claim and what was measured of it, as in `twoview.bench.evidence.claims.Claim`.

    effects: one a seed. figure: series of one length, by name. scatter, phase: panels, by title.
    """

    name: Text
    source: Text
    measured: Text
    expected: Text
    verdict: Verdict
    effects: Annotated[list[Finite], Field(max_length=SOME)] = []
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


def schema() -> str:
    """The JSON schema of every kind of record, as text."""
    return json.dumps(ADAPTER.json_schema(), indent=1, sort_keys=True) + "\n"
