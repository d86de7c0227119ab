"""The works that contestants are given, and what a contestant is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from twoview.loaders import presets
from twoview.loaders.views import View


class Work(BaseModel):
    """images: of one pass, on `threads`. seconds: a round repeats the pass until at least so many are over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int
    threads: int
    seconds: float = 1.0


class Job(Work):
    """Loading: all `views` at `size` pixels of the first `samples` of a beton file, as often as fills a pass."""

    kind: Literal["load"] = "load"
    beton: Path
    samples: int
    views: str
    size: int
    batch: int

    def indices(self) -> np.ndarray:
        """int64 (images,): the sample numbers of a pass."""
        return np.arange(self.images, dtype=np.int64) % self.samples

    def view_tuple(self) -> tuple[View, ...]:
        return presets.preset(self.views, self.size)


class ConvertJob(Work):
    """Writing: all images of a folder of class folders into a beton file, beside that folder."""

    kind: Literal["convert"] = "convert"
    folder: Path


class StepJob(Work):
    """Training: steps of SimCLR on one resident batch, as many as fill a pass.

    recipe: a recipe's values, of SimCLR with SGD, its precision a known one; its `compile` is of our side alone.
    """

    kind: Literal["step"] = "step"
    recipe: dict[str, Any]
    device: str


AnyJob: TypeAdapter[Job | ConvertJob | StepJob] = TypeAdapter(
    Annotated[Job | ConvertJob | StepJob, Field(discriminator="kind")]
)


class Contestant(Protocol):
    """note: what it does otherwise than asked, empty if nothing. job: as given, but a pass may be of more images."""

    note: str

    @property
    def job(self) -> Work: ...

    def make(self) -> None:
        """What has to be there before the first pass; called once. Its time is part of the first batch's."""

    def one_pass(self) -> Iterator[object]:
        """One pass over the images; yields whenever a batch is in hand. The caller goes on to the end."""
