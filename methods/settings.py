"""The base of all tables of a recipe (the TOML file of an experiment): values are checked once and never change."""

import re
import reprlib
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from twoview.loaders import limits
from twoview.loaders.limits import Limit


class Settings(BaseModel):
    """A table of a recipe. Unknown keys and numbers that are not finite are errors.

    The comment behind a field is its help text on the command line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def at_most(limit: Limit) -> AfterValidator:
    """Return a validator for an annotation, which refuses numbers above the limit before anything is allocated."""

    def check(count: int) -> int:
        if fault := limit.setting_fault(count):
            raise ValueError(fault)
        return count

    return AfterValidator(check)


def _is_a_side(side: int) -> int:
    """Return the side. Raises ValueError if a square image of this side has more pixels than allowed."""
    if fault := limits.PIXELS.fault(side**2):
        raise ValueError(f"a square of this side {fault}")
    return side


def _is_short(text: str) -> str:
    """Return the text. Raises ValueError if it has more characters than allowed."""
    if fault := limits.TEXT.fault(len(text)):
        raise ValueError(fault)
    return text


# Types of the fields of recipes. Each checks a limit of `loaders/limits.py`.
Width = Annotated[PositiveInt, at_most(limits.WIDTH)]  # features or channels of a layer
Repeats = Annotated[PositiveInt, at_most(limits.REPEATS)]  # number of layers, blocks, or views of an image
Iterations = Annotated[NonNegativeInt, at_most(limits.REPEATS)]  # the same where 0 is allowed, such as iterations
Keys = Annotated[PositiveInt, at_most(limits.QUEUE)]  # number of keys in a queue
Side = Annotated[PositiveInt, AfterValidator(_is_a_side)]  # side of a square image, in pixels
Images = Annotated[NonNegativeInt, at_most(limits.SAMPLES)]  # number of images; 0 means all or none, as the field says
Text = Annotated[str, AfterValidator(_is_short)]


class _Short(reprlib.Repr):
    """Shows values of any type, shortened where they are long or deeply nested."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlevel = 2

    def repr_int(self, number: int, level: int) -> str:
        return super().repr_int(number, level) if abs(number) < 10**18 else "a number of more than 18 digits"


def shown(value: Any) -> str:
    """Return a value of any type as text for an error: shortened, on one line."""
    return " ".join(_Short().repr(value).split())


def first_fault(error: ValidationError) -> str:
    """Return pydantic's first error as one sentence about its dotted key: what must be true, and what was found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(_key(str(part)) for part in first["loc"])
    fault = _fault(first)
    if not key:
        return fault
    return f"{key} {fault}" if fault.startswith(("must ", "is ")) else f"{key}: {fault}"


def _fault(fault: Any) -> str:
    """Return one of pydantic's errors in words, which begin with the predicate where its subject is the key."""
    if fault["type"] == "extra_forbidden":
        return "is not a known key"
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "union_tag_not_found":
        return f"{fault['ctx']['discriminator']} is missing"
    if fault["type"] == "union_tag_invalid":
        return f"{fault['ctx']['discriminator']} must be one of {fault['ctx']['expected_tags']}"
    if fault["type"] == "value_error":  # raised by one of our validators, which says what it found
        return str(fault["ctx"]["error"])
    # pydantic says "unable to parse" and quotes the text: what was found follows in our own words
    must = re.sub(", (unable to parse|got) .*", "", fault["msg"])
    must = re.sub(r"^\w+ should ", "must ", must)
    return " ".join(f"{must}, got {shown(fault['input'])}".split())


def _key(key: str) -> str:
    """Return a key as text for an error: shortened, and quoted if it has characters that do not print."""
    short = key if len(key) <= limits.NAME.value else f"{key[: limits.NAME.value]}..."
    return short if short.isprintable() else repr(short)
