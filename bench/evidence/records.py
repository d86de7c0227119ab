"""Evidence records: raw samples, environment, commit and recipe, enough to recompute every number shown.

A record is one JSON file, which is written atomically and never rewritten. There are seven kinds:
`run`: an encoder, or a baseline, and its accuracies.
`probe`: one probe of any encoder on any dataset.
`loader`: the rates of our loader and of its peers (libraries that a user could choose instead) on the same work.
`convert`: the rates of writing beton files (FFCV's dataset files), for twoview and its peers.
`probe-cost`: a probe and its peer on the same features.
`device`: the measurements of one step of `twoview suite gpu`.
`theory`: claims of the papers together with what was measured about them.

`schema.json` is the JSON schema for checking records with other tools (`twoview evidence --schema`). Version 2 adds the
fields that `write` fills in: the checksum, the machine's calibration and its clock rates. In version 3 a device figure
has a quantity instead of a label. Versions 1 and 2 can still be read.
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
from twoview.loaders.limits import CLASSES, VALUES
from twoview.methods.settings import Text

DEPTH = 20  # how deep tables may be nested; our records need 7
NAME = re.compile(r"[A-Za-z0-9_%-][A-Za-z0-9._%-]*")  # low-shot probes have a percent sign in their name
YEARS = range(1970, 2200)  # a machine whose clock was never set says 1970


class Part(BaseModel):
    """A part of a record.

    An unknown key is an error, because the file then comes from another program or a newer version.
    """

    # A diverged run has a loss of NaN, which pydantic would otherwise write as null.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


def checked_name(name: str) -> str:
    """Return `name` if it can be the name of a record.

    The name of a record is also the name of its file, so it must not be a path. It is composed of other names, so it
    may be twice as long as each of these. Raises ValueError unless it consists of ASCII letters, digits and `._%-` and
    does not begin with a dot.
    """
    most = 2 * limits.NAME.value
    if len(name) > most:
        raise ValueError(f"the name of a record must have at most {most:,} characters, got {len(name):,}")
    if not NAME.fullmatch(name):
        raise ValueError(
            "the name of a record must consist of ASCII letters, digits and the characters . _ % - "
            f"and must not begin with a dot, got {name!r}"
        )
    return name


def _is_a_word(text: str) -> str:
    """Return the text if it is short enough for a name."""
    if fault := limits.NAME.fault(len(text)):
        raise ValueError(fault)
    return text


def _is_of_this_age(created: datetime) -> datetime:
    """Return the time if its year is plausible."""
    if created.year not in YEARS:
        raise ValueError(f"must lie in the years {YEARS[0]} to {YEARS[-1]}, got {created.year}")
    return created


def _is_drawable(number: float) -> float:
    """Return the number if a plot can show it: NaN, which leaves a gap, or a number that is not too large."""
    if math.isinf(number) or abs(number) > 1e24:
        raise ValueError("must lie within -1e24 and 1e24, or be NaN")
    return number


def _is_free(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table that may hold anything, if it is not too large.

    The names of classes in a recipe's `contents` have a limit of their own.
    """
    bounded(table)
    contents = table.get("contents")
    classes = contents.get("classes") if isinstance(contents, dict) else None
    names = len(classes) if isinstance(classes, list | tuple) else 0
    CLASSES.check(names, "contents.classes")
    VALUES.check(_values_in(table) - names, "the table")
    return table


def _values_in(value: Any) -> int:
    """Return the number of values in `value`, counting itself and every inner table and list."""
    if isinstance(value, dict):
        return 1 + sum(map(_values_in, value.values()))
    return 1 + sum(map(_values_in, value)) if isinstance(value, list | tuple) else 1


def bounded(value: Any, depth: int = 0) -> None:
    """Raise ValueError if a text is too long, a table nested too deep or a whole number too large, at any depth.

    depth: the depth of `value`.
    """
    if depth > DEPTH:
        raise ValueError(f"tables must be nested at most {DEPTH} deep")
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


# 1e24 is more than any machine has, and so far below the largest float that sums, products and the axes of plots stay
# finite.
Amount = Annotated[float, Field(ge=0, le=1e24, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=1e-24, le=1e24, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-1e24, le=1e24, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**53)]  # a float can represent it exactly
PositiveCount = Annotated[int, Field(gt=0, lt=2**53)]
Samples = Annotated[list[Positive], Field(min_length=1)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Word = Annotated[str, AfterValidator(_is_a_word)]  # a short name, such as that of a table row or a line in a plot
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Free = Annotated[dict[str, Any], AfterValidator(_is_free)]
# The largest numbers of items in a record that are drawn individually: contestants or panels, points, and rows or
# columns of a grid.
SOME, MANY, A_SIDE = 100, 10_000, 50
Number = Annotated[float, AfterValidator(_is_drawable)]
Points = Annotated[list[Number], Field(min_length=1, max_length=MANY)]
Side = Annotated[list[Finite], Field(min_length=1, max_length=A_SIDE)]
Rounds = Annotated[list[Positive], Field(min_length=1, max_length=MANY)]
T = TypeVar("T")
Contestants = Annotated[dict[Word, T], Field(max_length=SOME)]  # by contestant, which is twoview or one of its peers


class Training(Part):
    """The measurements of a training run.

    epoch_seconds: wall time of each epoch. wait_seconds: the part of it spent waiting for a batch.
    views_per_epoch: number of views, summed over all images; SimCLR, for example, has two views per image.
    losses: the loss of every step.
    loader_threads, model_threads: numbers of CPU threads that the loader and torch use.
    peak_host_mib: peak resident memory of the process. peak_device_mib, peak_device_reserved_mib: peak GPU memory that
    torch allocated, and that its allocator took from the driver; None without a GPU.
    logged: the other values that the method logs (an accuracy, a prototype bias, terms of the loss), as the mean of
    each epoch.
    sizes: side of the views in each epoch, in pixels, if it grows (`[progressive]`); otherwise it is in the recipe.
    rank_wait_seconds: the wait_seconds of every rank if there are several. All other times are the first rank's.
    damaged_images: number of images that could not be decoded and were replaced by another one.
    step_seconds: time of every step without the wait for its batch; the first steps include compiling and warming up.
    step_flops: floating-point operations of a step's forward and backward pass, counted.
    matrix_flops_per_s: FLOP/s that the device reaches in a large matrix product of the same precision, one per round.
    joules: energy used by the device or the processors, if they have a counter for it.
    online_seconds: time of a step of the linear head that is trained along with the encoder, measured by itself, with
    one value per repeat.
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
    def seconds(self) -> float:
        """Seconds of the whole training run."""
        return sum(self.epoch_seconds)

    @property
    def seconds_per_epoch(self) -> float:
        """The typical time of an epoch."""
        return self._typical(self.epoch_seconds)

    @property
    def views_per_s(self) -> float:
        """The typical rate of the training run, in views per second."""
        return self.views_per_epoch / self.seconds_per_epoch

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilization: the typical step's FLOP/s as a share of the matrix product's.

        None if one of the two was not measured.
        """
        if not (self.step_flops and self.step_seconds and self.matrix_flops_per_s):
            return None
        return self.step_flops / self._typical(self.step_seconds) / statistics.median(self.matrix_flops_per_s)

    def _typical(self, seconds: list[float]) -> float:
        """Return the median, or the mean if the views grow, since a median would represent only one of the sizes."""
        return statistics.mean(seconds) if self.sizes else statistics.median(seconds)

    @property
    def loss_hash(self) -> str:
        """A hash of the bits of all losses, in sixteen hex digits. It shows whether a change has affected results."""
        return hashlib.sha256(struct.pack(f"<{len(self.losses)}d", *self.losses)).hexdigest()[:16]

    @property
    def online_share(self) -> float | None:
        """The share of the training time spent on online probes: the linear head in every step, kNN after some epochs.

        None if there was neither.
        """
        knn = self.logged.get("online_knn_seconds", [])
        if not (self.online_seconds or knn):
            return None
        head = len(self.losses) * statistics.median(self.online_seconds) if self.online_seconds else 0.0
        return (head + sum(knn)) / self.seconds

    @property
    def data_wait_share(self) -> float:
        """The share of the training time spent waiting for batches."""
        return sum(self.wait_seconds) / self.seconds


class Ceilings(Part):
    """The rates that limit a training run: the loader's alone and the model's alone, with one number per round.

    The model is measured on a batch that already lies on the device.
    """

    loader_views_per_s: Samples
    model_views_per_s: Samples

    @property
    def loader(self) -> float:
        """The median rate of the loader alone, in views per second."""
        return statistics.median(self.loader_views_per_s)

    @property
    def model(self) -> float:
        """The median rate of the model alone, in views per second."""
        return statistics.median(self.model_views_per_s)

    def efficiency(self, real_views_per_s: float) -> float:
        """Return the ratio of the training run's rate to the smaller of the two ceilings."""
        return real_views_per_s / min(self.loader, self.model)

    @property
    def bottleneck(self) -> str:
        """Which of the two is slower: "loader" or "model"."""
        return "loader" if self.loader < self.model else "model"


class Probed(Part):
    """The accuracies that a probe found, in percent, and what the probe cost.

    top5: None with five classes or fewer.
    per_class: top-1 of each class; None for a class without test images.
    interval: 95 % interval of top1, by the percentile bootstrap over the test images.
    seconds: wall time without the time of extracting the features.
    features_seconds: time of extracting the features, which is done once for all probes on features.
    peak_host_mib, peak_device_mib: peak memory on the host and on the GPU.
    spread: standard deviation of top1 over several splits, if there are several; the other numbers are then means.
    settings: the settings that were given and those that the probe chose.
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
    """Top-1 accuracies of the frozen encoder, in percent, and the number of images that they are based on.

    probes: the full result of every probe, by its name; empty in records that are older than this field.
    """

    knn_top1: Percent
    linear_top1: Percent
    train_images: Count
    test_images: PositiveCount
    probes: dict[Word, Probed] = {}


class LeftOut(Part):
    """The images that could not be read when a beton file was written: their number and the first 1,000 names."""

    images: PositiveCount
    names: Annotated[list[Text], Field(max_length=MANY)]


class Record(Part):
    """The fields that every record has.

    name: the stem of the file, unique within a folder of evidence.
    data: the XXH64 of the index of each beton file that was read, by the file's stem. An index includes every sample's
    XXH64.
    left_out: the images that these files lack, by the file's stem; complete files are omitted.
    calibration_seconds: time of a fixed piece of work on every core when the record was written, one per round.
    mhz: clock rates of CPU and GPU right after that work.
    sha256: the checksum of everything else, as `checksum` computes it.
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

    subject: `trained` is an encoder trained by the recipe's method, `untrained` the same encoder before its first step,
    and `pixels` is the pixels themselves, without an encoder.
    recipe: the validated recipe with every override applied; its `source` says where the values come from.
    overrides: the values, by key, that differ from those in the recipe file with this name; None if they were not
    compared or there is no such file.
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
    """One probe of one encoder on one dataset.

    encoder: the name of the encoder. encoder_hash: a hash of its structure, weights and normalization.
    size: side of an image, in pixels.
    asked: all settings that the result depends on.
    recipe: the recipe that the encoder was trained with; None for a published encoder.
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
    """The same loading work done by twoview and its peers in turn.

    beton: the beton file that was read. views: the name of the preset of views.
    size: side of a view, in pixels.
    images: number of images in one pass; a file with fewer images is read several times. batch: images per batch.
    images_per_s: by contestant, one rate per round, in source images per second.
    first_batch_s: by contestant, seconds from creating the loader to its first batch, with torch and numba already
    imported. first_batch_empty_cache_s: the same for twoview, without compiled kernels on disk.
    peak_mib: by contestant, the peak resident memory of its process after all imports, without its worker processes.
    added_mib: the part of it that came after the imports. batch_mib: size of the views of one batch.
    notes: by contestant, how its work differed from the task, or why it did not take part.
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
    """The same folder of JPEG files written to a beton file by twoview and its peers in turn.

    images_per_s: by contestant, one rate per round. notes: by contestant, as in LoaderRates.
    """

    kind: Literal["convert"] = "convert"
    dataset: Text
    images: Count
    threads: Count
    images_per_s: Contestants[Rounds]
    notes: Contestants[Text] = {}


class ProbeCost(Record):
    """A probe and its peer run in turn on the same random features: their cost and their accuracy.

    train, test: number of features to train on and to test on. dim: length of a feature. classes: number of classes.
    settings: the settings of the probe.
    seconds: by contestant, time from the features to the accuracy, one per round.
    added_mib: by contestant, peak resident memory in addition to the memory of the features.
    top1: by contestant, in percent.
    notes: by contestant, why it did not take part.
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
    """One figure measured on a device: the samples of one quantity.

    work: what was done, in words.
    quantity: what was measured; it determines the unit of the samples.
    variant: tells apart several figures of one quantity in the same work, such as `85` for the time to an accuracy of
    85 %, or the name of the library whose rate it is. Otherwise empty.
    samples: empty if the quantity could not be measured; `note` then says why.
    note: what a reader has to know, such as the measured step that a projection is based on.
    tolerance: if the figure is a check, the value that no sample may exceed.
    """

    work: Text
    quantity: Quantity = Field(json_schema_extra={"units": {name: kind.unit for name, kind in KINDS.items()}})
    variant: Word = ""
    samples: list[float]
    note: Text = ""
    tolerance: Amount | None = None

    @property
    def kind(self) -> Kind:
        """Unit and direction of the quantity."""
        return KINDS[self.quantity]

    @property
    def name(self) -> str:
        """The quantity and its variant, in words."""
        words = self.quantity.replace("_", " ")
        return f"{words}, {self.variant}" if self.variant else words

    @property
    def median(self) -> float:
        """The median of the samples; NaN without samples."""
        return statistics.median(self.samples) if self.samples else math.nan

    @property
    def off(self) -> bool:
        """Whether this is a check that failed. A sample that is NaN fails it."""
        return self.tolerance is not None and not all(sample <= self.tolerance for sample in self.samples)


class LabeledFigure(Part):
    """A figure in the form of schema versions 1 and 2, in which a label (`figure`) says what was measured."""

    work: Text
    figure: Text
    unit: Word
    samples: list[float]
    note: Text = ""
    tolerance: Amount | None = None
    course: bool = False

    def measured(self) -> Figure:
        """Return the figure in its current form.

        Raises ValueError for a label or a unit that no version of twoview wrote.
        """
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
    """Return a figure of any schema version in its current form, not yet validated."""
    labeled = isinstance(figure, dict) and "figure" in figure
    return LabeledFigure.model_validate(figure).measured() if labeled else figure


AnyFigure = Annotated[Figure, BeforeValidator(_measured, json_schema_input_type=Figure | LabeledFigure)]


class DeviceFigures(Record):
    """The measurements of one step of `twoview suite gpu`.

    recipe: the recipe that was trained, if the step trains one.
    stopped: why the step ended early, with the figures measured so far; empty if it was completed.
    """

    kind: Literal["device"] = "device"
    device: Word
    figures: Annotated[list[AnyFigure], Field(max_length=MANY)]
    recipe: Free | None = None
    stopped: Text = ""

    def plus(self, *figures: Figure) -> "DeviceFigures":
        """Return a copy of the record with more figures."""
        return self.model_copy(update={"figures": [*self.figures, *figures]})


class Scatter(Part):
    """One or more points in a plane, rounded for plotting. label: the class or cluster of each point."""

    x: Points
    y: Points
    label: Annotated[list[Seed], Field(min_length=1, max_length=MANY)]

    @model_validator(mode="after")
    def _are_points(self) -> Self:
        if len({len(self.x), len(self.y), len(self.label)}) > 1:
            raise ValueError(
                f"x, y and label must have the same length, got {len(self.x)}, {len(self.y)}, {len(self.label)}"
            )
        return self

    @classmethod
    def of(cls, points: claims.Scatter) -> "Scatter":
        """Convert the points of a claim to a part of a record."""
        return cls(x=_rounded(points.x), y=_rounded(points.y), label=points.label.tolist())


class Phase(Part):
    """A quantity measured over a grid of two parameters, rounded for plotting.

    x, y: the values of the two parameters. value: the measured quantity, with one row for each y and one column for
    each x.
    """

    x_name: Word
    x: Side
    y_name: Word
    y: Side
    value: list[list[Number]]

    @model_validator(mode="after")
    def _is_a_grid(self) -> Self:
        if len(self.value) != len(self.y) or any(len(row) != len(self.x) for row in self.value):
            raise ValueError(
                f"value must have {len(self.y)} rows, one for each y, and {len(self.x)} columns, one for each x"
            )
        return self

    @classmethod
    def of(cls, phase: claims.Phase) -> "Phase":
        """Convert the grid of a claim to a part of a record."""
        x, y, value = phase.x.tolist(), phase.y.tolist(), [_rounded(row) for row in phase.value]
        return cls(x_name=phase.x_name, x=x, y_name=phase.y_name, y=y, value=value)


def _rounded(values: Iterable[float]) -> list[float]:
    """Return the values rounded to four significant digits, so that a record of many points stays small."""
    return [float(f"{value:.4g}") for value in values]


class Claimed(Part):
    """A claim of a paper and what was measured about it, with the fields of `twoview.bench.evidence.claims.Claim`.

    effects: one number per seed. figure: series of equal length, by name. scatter, phase: panels, by title.
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
                f"the series of a figure must have the same length, got {', '.join(map(str, sorted(lengths)))}"
            )
        return self

    @classmethod
    def of(cls, claim: Claim) -> "Claimed":
        """Convert a claim to a part of a record."""
        drawn = {
            "figure": {name: values.tolist() for name, values in claim.figure.items()},
            "scatter": {title: Scatter.of(points) for title, points in claim.scatter.items()},
            "phase": {title: Phase.of(phase) for title, phase in claim.phase.items()},
        }
        return cls(**vars(claim) | drawn)


class Theory(Record):
    """The claims that one experiment of `twoview suite theory` tested, and the seconds that it took."""

    kind: Literal["theory"] = "theory"
    claims: list[Claimed] = Field(min_length=1, max_length=SOME)
    seconds: Positive


AnyRecord = Run | Probing | LoaderRates | ConvertRates | ProbeCost | DeviceFigures | Theory
ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


def schema() -> str:
    """Return the JSON schema of all kinds of records, as text."""
    return json.dumps(ADAPTER.json_schema(), indent=1, sort_keys=True) + "\n"
