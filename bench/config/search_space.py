"""The `[search]` table of a recipe: the values that a hyper-parameter search draws from, and the epochs of a trial."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from twoview.loaders import limits
from twoview.methods.settings import Settings, Text, at_most

Scalar = bool | int | float | Text


class Search(Settings):
    """The `[search]` table: what `twoview search` draws for each trial, and how long a trial trains."""

    epochs: Annotated[NonNegativeInt, at_most(limits.EPOCHS)] = 0  # epochs of a trial; 0 means the recipe's
    ranges: dict[str, Annotated[list[Scalar], Field(min_length=1)]] = Field(
        default_factory=dict
    )  # recipe key -> [low, high, "log" or "linear"], or a list of choices

    @model_validator(mode="after")
    def _can_be_drawn_from(self) -> Self:
        for key, values in self.ranges.items():
            kind = scale(values)
            if not kind:
                continue
            low, high, _ = values
            if not (isinstance(low, int | float) and isinstance(high, int | float) and low < high):
                raise ValueError(f"{key}: a {kind} range must have two ascending numbers, got {low!r} and {high!r}")
            if kind == "log" and low <= 0:
                raise ValueError(f"{key}: a log range must start above 0, got {low!r}")
        return self


def scale(values: Sequence[Scalar]) -> Literal["log", "linear"] | None:
    """Return the scale on which a range [low, high, scale] is drawn; None if the values are a list of choices."""
    if len(values) == 3:
        return "log" if values[2] == "log" else "linear" if values[2] == "linear" else None
    return None
