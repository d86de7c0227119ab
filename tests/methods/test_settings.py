"""A recipe's values are limited before anything is allocated, and every error is one short sentence."""

import re

import pytest
from pydantic import BaseModel, ValidationError

from twoview.loaders import limits
from twoview.methods import registry
from twoview.methods.backbones import Backbone
from twoview.methods.optim import Optim
from twoview.methods.settings import Settings, Side, Text, Width, first_fault

NUMBERS = (int, float)
TABLES: list[type[BaseModel]] = [Backbone, Optim, *(entry.options for entry in registry.METHODS.values())]


def fault(table, **values):
    with pytest.raises(ValidationError) as caught:
        table.model_validate(values)
    return first_fault(caught.value)


def numbers():
    """Return every numeric field of every table: (table, field, type)."""
    for table in TABLES:
        for name, field in table.model_fields.items():
            if field.annotation in NUMBERS:
                yield table, name, field.annotation


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_no_number_of_a_recipe_is_infinite_or_none(value):
    for table, name, _ in numbers():
        assert fault(table, **{name: value}).startswith(f"{name} must be "), table


def test_every_whole_number_of_a_method_or_backbone_is_bounded():
    for table, name, kind in numbers():
        if kind is int:
            for value in (2**31, 10**30, 16**9000):
                said = fault(table, **{name: value})
                assert re.match(f"{name}( must be|: a square of this side must have) at most ", said), table
                assert len(said) < 300


def test_the_sentence_says_what_raises_the_limit(monkeypatch):
    class Table(Settings):
        width: Width

    assert fault(Table, width=131073) == (
        "width must be at most 131,072, got 131,073; the environment variable TWOVIEW_MAX_WIDTH raises this limit"
    )
    monkeypatch.setenv(limits.WIDTH.variable, "131073")
    assert Table(width=131073).width == 131073


def test_a_key_is_shown_on_one_line():
    assert fault(Settings, **{"a\nb": 1}) == "'a\\nb' is not a known key"
    assert fault(Settings, **{"a" * 500: 1}) == f"{'a' * 100}... is not a known key"


def test_sides_and_texts():
    class Table(Settings):
        side: Side = 1
        text: Text = ""

    assert Table(side=13377).side == 13377
    assert fault(Table, side=13378).startswith("side: a square of this side must have at most 178,956,970 pixels, got")
    assert fault(Table, text="a" * 20_001).startswith("text must have at most 20,000 characters, got 20,001")


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


LONG = {
    "a text": "x" * 10**6,
    "texts": ["x" * 10**6] * 100,
    "lists": deep(100_000),
    "a table": {"a": deep(5000)},
    "a number": 16**9000,
    "numbers": [16**9000],
}


@pytest.mark.parametrize("value", LONG.values(), ids=LONG)
def test_what_is_long_or_deep_is_not_repeated_whole(value):
    class Table(Settings):
        number: bool

    assert len(fault(Table, number=value)) < 600
    assert len(fault(Table, number=True, **{"k" * 10**6: 1})) < 500
