"""The work that every contestant is given, and what a contestant is."""

from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from loaders import presets
from loaders.views import View


class Job(BaseModel):
    """One pass over the first `images` samples of a beton file: all `views` at `size` pixels, on `threads`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beton: Path
    views: str
    size: int
    images: int
    batch: int
    threads: int

    def view_tuple(self) -> tuple[View, ...]:
        return presets.preset(self.views, self.size)


class Contestant(Protocol):
    """note: what it does otherwise than asked, empty if nothing."""

    note: str

    def first_batch(self) -> None:
        """From nothing made yet to a batch in hand; called once, before the first pass."""

    def one_pass(self) -> None: ...
