"""What all tables of a recipe are: values that are checked when they are made and never change."""

import reprlib
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from twoview.loaders import limits
from twoview.loaders.limits import Limit


class Settings(BaseModel):
    """Unknown keys are errors, and so are numbers that are not finite. A comment behind a field is its help text on the
    command line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def at_most(limit: Limit) -> AfterValidator:
    """For an annotation: a number that asks for no more than the limit allows, said before anything is made of it."""

    def check(count: int) -> int:
        if fault := limit.fault(count):
            raise ValueError(fault)
        return count

    return AfterValidator(check)


def _is_a_side(side: int) -> int:
    if fault := limits.PIXELS.fault(side**2):
        raise ValueError(f"a square of this side {fault}")
    return side


def _is_short(text: str) -> str:
    if fault := limits.TEXT.fault(len(text)):
        raise ValueError(fault)
    return text


Width = Annotated[PositiveInt, at_most(limits.WIDTH)]
Repeats = Annotated[PositiveInt, at_most(limits.REPEATS)]  # layers, blocks, views of an image
Iterations = Annotated[NonNegativeInt, at_most(limits.REPEATS)]  # also views of an image, where there may be none
Keys = Annotated[PositiveInt, at_most(limits.QUEUE)]  # of a queue
Side = Annotated[PositiveInt, AfterValidator(_is_a_side)]  # of a square image, in pixels
Images = Annotated[NonNegativeInt, at_most(limits.SAMPLES)]  # where 0 means all of them, or none
Text = Annotated[str, AfterValidator(_is_short)]


class _Short(reprlib.Repr):
    """Values cut where they are long or deep, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlevel = 2

    def repr_int(self, number: int, level: int) -> str:
        return super().repr_int(number, level) if abs(number) < 10**18 else "a number of more than 18 digits"


def shown(value: Any) -> str:
    """A value of any kind for a sentence: cut, on one line."""
    return " ".join(_Short().repr(value).split())


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, in one sentence behind its dotted key: what must be, and what was found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(_key(str(part)) for part in first["loc"])
    return f"{key}: {_sentence(first)}" if key else _sentence(first)


def _sentence(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "unknown key"
    if fault["type"] == "missing":
        return "missing key"
    if fault["type"] == "union_tag_not_found":
        return f"{fault['ctx']['discriminator']} is missing"
    if fault["type"] == "union_tag_invalid":
        return f"{fault['ctx']['discriminator']} must be one of {fault['ctx']['expected_tags']}"
    if fault["type"] == "value_error":  # of a check of ours, which says itself what it found
        return str(fault["ctx"]["error"])
    return " ".join(f"{fault['msg']}, not {shown(fault['input'])}".split())


def _key(key: str) -> str:
    short = key if len(key) <= limits.NAME.value else f"{key[: limits.NAME.value]}..."
    return short if short.isprintable() else repr(short)
