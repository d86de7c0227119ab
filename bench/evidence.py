"""The record of a run: raw samples, environment, commit and recipe, enough to recompute every number shown.

One JSON file a run, written whole or not at all, never rewritten. Four kinds: `run` (an encoder or a baseline
and its accuracies), `loader` (the rates of a loader and of its peers on the same work), `convert` (the same of
writing beton files) and `device` (what a step of `twoview suite gpu` measured).
"""

import hashlib
import math
import statistics
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from bench.environment import Environment, environment
from loaders.files import whole_file


class Part(BaseModel):
    """A piece of a record; an unknown key means a foreign or newer file and is an error."""

    # A diverged run has a loss of NaN, which plain JSON would turn into null.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


Samples = Annotated[list[PositiveFloat], Field(min_length=1)]


class Training(Part):
    """What the trainer measured.

    epoch_seconds, wait_seconds: wall seconds of each epoch, and of those the seconds spent waiting for a batch.
    losses: the loss of every step. Views counts every view of every image, so SimCLR has two an image.
    logged: what else the method logs (an accuracy, a prototype bias, terms of the loss), the mean of each epoch.
    rank_wait_seconds: wait_seconds of every rank, where there are several; the other clocks are the first rank's.
    damaged_images: how many images could not be decoded and had another put in their place.
    step_seconds: of every step, without the wait for its batch; the first ones compile and warm up.
    step_flops: of a step's forward and backward pass, counted. matrix_flops_per_s: what the device reaches in a large
    matrix product of the precision, one number a round. joules: of device or processors, where they count them.
    """

    epoch_seconds: Samples
    wait_seconds: list[Annotated[float, Field(ge=0)]]
    views_per_epoch: PositiveInt
    losses: list[float]
    precision: Literal["fp32", "bf16", "fp16"]
    device: str
    loader_threads: int
    model_threads: int
    peak_host_mib: float
    peak_device_mib: float | None = None
    logged: dict[str, list[float]] = {}
    rank_wait_seconds: list[list[float]] = []
    damaged_images: int = 0
    step_seconds: list[float] = []
    step_flops: int | None = None
    matrix_flops_per_s: list[float] = []
    peak_device_reserved_mib: float | None = None
    joules: float | None = None

    @property
    def seconds_per_epoch(self) -> float:
        return statistics.median(self.epoch_seconds)

    @property
    def views_per_s(self) -> float:
        return self.views_per_epoch / self.seconds_per_epoch

    @property
    def mfu(self) -> float | None:
        """Model FLOPs a second in the median step, as a share of the measured matrix product's."""
        if not (self.step_flops and self.step_seconds and self.matrix_flops_per_s):
            return None
        return self.step_flops / statistics.median(self.step_seconds) / statistics.median(self.matrix_flops_per_s)

    @property
    def loss_hash(self) -> str:
        """Sixteen hex digits of the losses, to the bit: what a change that must not change a thing leaves alone."""
        return hashlib.sha256(struct.pack(f"<{len(self.losses)}d", *self.losses)).hexdigest()[:16]

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


class Accuracy(Part):
    """Top-1 of the frozen representation, in percent, and on how many images."""

    knn_top1: float
    linear_top1: float
    train_images: int
    test_images: int


class Record(Part):
    """What every record says. name: the file's stem, unique within a folder of evidence."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[^/]+$")
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    environment: Environment = Field(default_factory=environment)


class Run(Record):
    """One encoder, or one baseline, and its accuracies.

    subject: `trained` by the recipe's method; `untrained`, the same encoder at its first step; `pixels`, no encoder.
    recipe: the validated recipe with every override applied; `source` says where its values come from.
    """

    kind: Literal["run"] = "run"
    subject: Literal["trained", "untrained", "pixels"]
    recipe: dict[str, Any]
    seed: int
    accuracy: Accuracy
    training: Training | None = None
    ceilings: Ceilings | None = None


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
    beton: str
    views: str
    size: int
    views_per_image: int
    images: int
    threads: int
    images_per_s: dict[str, Samples]
    first_batch_s: dict[str, float]
    notes: dict[str, str] = {}
    batch: int | None = None
    first_batch_empty_cache_s: float | None = None
    peak_mib: dict[str, float] = {}
    added_mib: dict[str, float] = {}
    batch_mib: float | None = None


class ConvertRates(Record):
    """The same folder of JPEG files written to a beton file by twoview and its peers in turn, in images a second."""

    kind: Literal["convert"] = "convert"
    dataset: str
    images: int
    threads: int
    images_per_s: dict[str, Samples]
    notes: dict[str, str] = {}


class Figure(Part):
    """One figure of a device: its samples in `unit`; none where it was not reached, and `note` says why.

    work: what was done, in words. tolerance: what no sample of a check may exceed. note: what a reader has to know,
    such as the measured step that a projection comes from. course: samples of one thing as it went on, not repeats.
    """

    work: str
    figure: str
    unit: str
    samples: list[float]
    note: str = ""
    tolerance: float | None = None
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
    """What one step of `twoview suite gpu` measured. recipe: what was trained, where the step trains one."""

    kind: Literal["device"] = "device"
    device: str
    figures: list[Figure] = Field(min_length=1)
    recipe: dict[str, Any] | None = None


AnyRecord = Run | LoaderRates | ConvertRates | DeviceFigures
ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def write(record: AnyRecord, folder: Path) -> Path:
    """Writes the record into the folder. FileExistsError if one of that name is there: evidence is never rewritten."""
    path = path_of(folder, record.name)
    if path.exists():
        raise FileExistsError(f"{path} exists; evidence is never rewritten")
    with whole_file(path) as part:
        part.write_text(record.model_dump_json(indent=1) + "\n")
    return path


def read(path: Path) -> AnyRecord:
    """Reads one record. ValueError, naming the file, if it is damaged or not ours."""
    try:
        record = ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ValueError(f"{path} is not an evidence record of twoview: {where}: {first['msg']}") from None
    if record.name != path.stem:
        raise ValueError(f"{path} holds the record {record.name}: a copy, or renamed")
    return record


def read_folder(folder: Path) -> tuple[list[AnyRecord], list[str]]:
    """All records of a folder and its subfolders, and one sentence for each file that is damaged or foreign."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of evidence at {folder}")
    records, complaints = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            records.append(read(path))
        except (ValueError, OSError) as error:
            complaints.append(str(error))
    return records, complaints
