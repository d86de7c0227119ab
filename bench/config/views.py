"""The views of a recipe: the name of a preset, or a table that starts from a preset and changes single values.

    [views]
    preset = "vicreg"
    crop_scale = [0.2, 1.0]  # in all views
    jitter.hue = 0.05        # the rest of the jitter stays as it is
    blur = false             # off
    [views.2]
    solarize = false         # only in the second view

A key is a field of `View`, but for `crop_scale` and `crop_ratio`, its `scale` and `ratio`. A table named by a view's
number, counted from 1, changes that view alone, after the changes of all views.
"""

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, get_type_hints

import tyro
from pydantic import AfterValidator, Field, Strict, ValidationError, create_model

from twoview.loaders import presets
from twoview.loaders.names import look_up
from twoview.loaders.ops.op import Op
from twoview.loaders.views import OPS, View
from twoview.methods import registry
from twoview.methods.method import Options
from twoview.methods.settings import Settings, first_fault, shown


def as_toml(value: Any) -> str:
    """Return views as a recipe's file and `--views` have them: a preset's name, or a TOML table on one line."""
    return value if isinstance(value, str) else _inline(value)


def _inline(value: Any) -> str:
    """Return a value as TOML, which writes numbers, strings, lists and truth values as JSON does, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def _from_words(words: list[str]) -> Any:
    """Return the views that `--views` has in words: a preset's name, or a TOML table in braces."""
    (text,) = words
    if not text.startswith("{"):
        return text
    try:
        (views,) = tomllib.loads(f"views = {text}").values()
    except (ValueError, RecursionError):  # not TOML, or more than one value
        raise ValueError(f"views must be the name of a preset or a TOML table, got {shown(text)}") from None
    return views


# A preset's name, or the table as it is in a recipe's file, with the changes of one view under its number.
Views = Annotated[
    str | dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME|{TABLE}",
        instance_from_str=_from_words,
        is_instance=lambda value: isinstance(value, str | dict),
        str_from_instance=lambda value: [as_toml(value)],
    ),
]


def _is_a_range(ends: list[float]) -> list[float]:
    """Return the ends of a range. Raises ValueError unless they are two numbers in ascending order."""
    if len(ends) != 2 or ends[0] > ends[1]:
        raise ValueError(f"must be two numbers in ascending order, got {ends}")
    return ends


Share = Annotated[float, Strict(), Field(gt=0, le=1)]
Ratio = Annotated[float, Strict(), Field(gt=0)]
Probability = Annotated[float, Strict(), Field(ge=0, le=1)]


def _table(kinds: Mapping[str, Any]) -> type[Settings]:
    """Return the type of a table with any of these keys. kinds: key -> type of its value."""
    fields: dict[str, Any] = {key: (kind, None) for key, kind in kinds.items()}
    return create_model("Table", __base__=Settings, **fields)


def _kind(op: Op) -> Any:
    """Return the type of an op's value: its probability, or a table of its settings, the last of which is p."""
    if op.settings is float:
        return Probability
    kinds = {name: Annotated[kind, Strict()] for name, kind in get_type_hints(op.settings).items()}
    return _table(kinds | {"p": Probability})


KINDS: dict[str, Any] = {
    "crop_scale": Annotated[list[Share], AfterValidator(_is_a_range)],
    "crop_ratio": Annotated[list[Ratio], AfterValidator(_is_a_range)],
    "flip": Probability,
    **{name: _kind(op) for name, op in OPS.items()},
    "interpolation": Literal["bilinear", "bicubic"],
}
FIELDS = {key: key.removeprefix("crop_") for key in KINDS}  # key -> field of `View`
OFF: dict[str, Any] = {"flip": 0.0, **{name: op.off for name, op in OPS.items()}}  # key -> its field's value for false
Changes = _table(KINDS)
TABLES: dict[str, Any] = {name: op.settings for name, op in OPS.items() if op.settings is not float}
NUMBER = re.compile(r"[1-9][0-9]{0,3}")  # the key of a table for one view


def stored(given: Any) -> Views:
    """Return the views of a recipe in the form that is kept: a preset's name if nothing is changed, else a table.

    In the table, values have the types of `View`'s fields.
    Raises ValueError, naming the key, if a key is unknown or a value has the wrong type or is out of range.
    """
    if isinstance(given, str):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"views must be the name of a preset or a table, got {shown(given)}")
    table = {str(key): value for key, value in given.items()}
    if "preset" not in table:
        raise ValueError("views.preset is missing")
    preset = table.pop("preset")
    if not isinstance(preset, str):
        raise ValueError(f"views.preset must be the name of a preset, got {shown(preset)}")
    single = {key: table.pop(key) for key in [*table] if NUMBER.fullmatch(key)}
    changes = _stored("views", table, ["preset", *KINDS])
    for number in sorted(single, key=int):
        if one := _stored(f"views.{number}", single[number], KINDS):
            changes[number] = one
    return {"preset": preset, **changes} if changes else preset


def _stored(where: str, given: Any, known: Collection[str]) -> dict[str, Any]:
    """Return changes with values of the right types. where: the table's key. known: keys that an error may suggest."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} must be a table, got {shown(given)}")
    _check_known(where, given, known)
    off = {key for key, value in given.items() if value is False and key in OFF}
    for key, value in given.items():
        if key in TABLES and key not in off:
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}.{key} must be false or a table, got {shown(value)}")
            _check_known(f"{where}.{key}", value, TABLES[key]._fields)
    try:
        checked = Changes.model_validate({key: value for key, value in given.items() if key not in off})
    except ValidationError as error:
        raise ValueError(f"{where}.{first_fault(error)}") from None
    values = checked.model_dump(mode="json", exclude_unset=True)
    return {key: False if key in off else values[key] for key in KINDS if key in given}


def _check_known(where: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ValueError, naming the table and the nearest known key, if a key is unknown."""
    for key in given:
        look_up(f"key of {where}", str(key), dict.fromkeys(known))


def with_change(views: Views, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return the views as a table with another value at nested keys, such as ("jitter", "hue")."""
    changed: dict[str, Any] = {"preset": views} if isinstance(views, str) else json.loads(json.dumps(views))
    *tables, last = keys
    table = changed
    for key in tables:
        if not isinstance(table.get(key), dict):  # not changed yet, or off
            table[key] = {}
        table = table[key]
    table[last] = value
    return changed


def made(views: Views, size: int) -> tuple[View, ...]:
    """Return the views of a recipe at a size in pixels. views: in the form that `stored` returns.

    Raises ValueError, naming the key, if there is no such preset, or if a view cannot be changed in this way.
    """
    if isinstance(views, str):
        return presets.preset(views, size)
    one = [_changed(view, _of_all(views), "views") for view in presets.preset(views["preset"], size)]
    for number, changes in _of_one(views):
        if number > len(one):
            raise ValueError(f"views.{number} must be a view of {views['preset']}, which has only {len(one)}")
        one[number - 1] = _changed(one[number - 1], changes, f"views.{number}")
    return tuple(one)


def _of_all(views: dict[str, Any]) -> dict[str, Any]:
    """Return the changes of all views."""
    return {key: value for key, value in views.items() if key in KINDS}


def _of_one(views: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each view that has changes of its own, and these changes."""
    return ((int(key), value) for key, value in views.items() if NUMBER.fullmatch(key))


def _changed(view: View, changes: Mapping[str, Any], where: str) -> View:
    """Return the view with the changes. where: key of the table that has them."""
    values: dict[str, Any] = {}
    for key, value in changes.items():
        field = FIELDS[key]
        if value is False:
            value = OFF[key]
        elif isinstance(value, dict):
            value = _settings(OPS[key], getattr(view, field), value, view.size, f"{where}.{key}")
        elif isinstance(value, list):
            if view.scale is None:
                raise ValueError(f"{where}.{key} must be left out, since the preset has no random resized crop")
            value = tuple(value)
        values[field] = value
    return replace(view, **values)


def _settings(op: Op, before: Any, given: Mapping[str, Any], size: int, where: str) -> Any:
    """Return the settings of an op: those before, if the view has the op, or else its defaults, with the given ones.

    size: of the view, in pixels. where: the key of the table that gives them.
    """
    kind: Any = op.settings
    values = (before._asdict() if before else kind._field_defaults) | given
    if missing := [name for name in kind._fields if name not in values]:
        raise ValueError(f"{where} must also have {', '.join(missing)}, since the view has no {op.name} to change")
    settings = kind(**values)
    try:
        op.check(settings, size)
    except ValueError as error:
        about = str(error).split()[0]
        raise ValueError(f"{where}{'.' if about in kind._fields else ': '}{error}") from None
    return settings


def numbered(views: Views, size: int, method: Options) -> list[tuple[int, View]]:
    """Return the views that the loader makes of each image for a method: the recipe's views, repeated as it requires.

    Each has its number among the recipe's views, counted from 1. views, size: see `made`.
    Raises ValueError, naming the method, if it does not take the recipe's views.
    """
    own = tuple(replace(view) for view in made(views, size))  # copies, as views of a preset may be one object
    numbers = {id(view): number for number, view in enumerate(own, 1)}
    return [(numbers[id(view)], view) for view in registry.entry(method.name).method.views_for(method, own)]


def check(views: Views, sizes: Collection[int], method: Options) -> None:
    """Raise ValueError, naming the key, if views cannot be made at one of the sizes, or the method ignores a change."""
    for size in sizes:
        made(views, size)
    if isinstance(views, dict) and (single := dict(_of_one(views))):
        used = {number for size in sizes for number, _ in numbered(views, size, method)}
        for number in single.keys() - used:
            raise ValueError(f"views.{number} must be left out, since {method.name} does not use this view")


def in_words(views: Any) -> Any:
    """Return a text for the views in a record's recipe: the preset's name, and whether it is changed."""
    if isinstance(views, dict) and isinstance(views.get("preset"), str):
        return f"{views['preset']}, changed"
    return views
