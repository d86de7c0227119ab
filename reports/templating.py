"""The template engine of the page and of model cards."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


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
