"""The jobs that contestants are given, and the interface of a contestant."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from twoview.loaders import presets
from twoview.loaders.views import View


class Work(BaseModel):
    """The fields of every job: the number of images in one pass, and the number of threads to use.

    seconds: a round repeats the pass until at least this much time has passed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int
    threads: int
    seconds: float = 1.0


class Job(Work):
    """Loading: batches of views of the images in a beton file (FFCV's format for datasets).

    samples: a pass takes the first `samples` images of the file, several times if the pass has more images than that.
    views: name of the preset, all of whose views are made, at `size` pixels. batch: number of images in a batch.
    """

    kind: Literal["load"] = "load"
    beton: Path
    samples: int
    views: str
    size: int
    batch: int

    def indices(self) -> np.ndarray:
        """Return the sample numbers of a pass, int64 (images,)."""
        return np.arange(self.images, dtype=np.int64) % self.samples

    def view_tuple(self) -> tuple[View, ...]:
        """Return the preset's views at the job's size."""
        return presets.preset(self.views, self.size)


class ConvertJob(Work):
    """Writing: all images of a folder with one subfolder per class into a beton file next to that folder."""

    kind: Literal["convert"] = "convert"
    folder: Path


class StepJob(Work):
    """Training: SimCLR steps on one batch that stays on the device; `images` is batch times steps of a pass.

    recipe: the values of a recipe that trains SimCLR with SGD in a precision other than auto. Its `compile` applies to
    twoview's side only. device: the torch device.
    """

    kind: Literal["step"] = "step"
    recipe: dict[str, Any]
    device: str


AnyJob: TypeAdapter[Job | ConvertJob | StepJob] = TypeAdapter(
    Annotated[Job | ConvertJob | StepJob, Field(discriminator="kind")]
)


class Contestant(Protocol):
    """One side of a race: twoview or a peer.

    note: how its work differs from the job, empty if it does not. job: the given job, whose pass it may have lengthened
    to more images.
    """

    note: str

    @property
    def job(self) -> Work: ...

    def make(self) -> None:
        """Prepare the first pass. Called once; its time counts as part of the first batch."""

    def one_pass(self) -> Iterator[object]:
        """Make one pass over the images. The caller must exhaust the iterator.

        A loader yields each batch when it is ready; a training contestant may yield only once, at the end.
        """
