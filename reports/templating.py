"""The template engine of pages and of model cards."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twoview.bench.runtime.escapes import on_lines


def templates(**settings: Any) -> Environment:
    """Return the engine for the files in `templates/`, with more settings of jinja2's `Environment`.

    A variable that a template lacks is an error.
    """
    return Environment(
        loader=PackageLoader("twoview.reports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **settings,
    )


def pages() -> Environment:
    """Return the engine for HTML pages, on which every value is escaped and every character is visible."""
    return templates(autoescape=True, finalize=_visible)


def _visible(value: Any) -> Any:
    """Return a text in which invisible characters, such as right-to-left marks, are written out.

    Non-breaking spaces are kept, since the template itself makes them. Values that are not plain text are returned
    unchanged.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\u00a0".join(map(on_lines, value.split("\u00a0")))
