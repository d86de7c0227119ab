"""Options for the fields of a recipe, in commands that first have to find the recipe on the command line."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import BaseModel
from tyro.conf import arg

from twoview.bench.config import recipe as recipes
from twoview.methods import registry

Run = TypeVar("Run", bound=Callable[..., None])


def with_settings(run: Run, start: recipes.Recipe[Any] | None) -> Run:
    """Return a command's function whose parameter `settings` has an option for each field of the recipe `start`.

    Without a recipe there is no such option. The type of the settings depends on the recipe's method, so it can be
    annotated only when the recipe is known.
    """
    kind: Any = type(start)
    hidden: Any = tyro.conf.Suppress
    run.__annotations__["settings"] = Annotated[kind, arg(name="")] if start else hidden[None]
    return run


def recipe_in(words: Sequence[str], flags: set[str]) -> str | None:
    """Return the first word that is neither an option nor an option's value, since options may precede the recipe.

    words: the command line after the command. flags: the command's own options that take no value.
    """
    flags = flags | _flags(recipes.Recipe)
    for entry in registry.METHODS.values():
        flags |= _flags(entry.options, "method.")
    left = iter(words)
    for word in left:
        if not word.startswith("-"):
            return word
        if "=" not in word and word.replace("_", "-") not in flags:
            next(left, None)
    return None


def _flags(table: type[BaseModel], above: str = "") -> set[str]:
    """Return the options that take no value: the Boolean fields of a table and of the tables within it."""
    found: set[str] = set()
    for name, field in table.model_fields.items():
        kind, dashed = field.annotation, name.replace("_", "-")
        if kind is bool:
            found |= {f"--{above}{dashed}", f"--{above}no-{dashed}"}
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _flags(kind, f"{above}{dashed}.")
    return found
