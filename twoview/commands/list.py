"""The command `list`: the available recipes, methods, backbones, datasets, views and suites."""

from collections.abc import Callable
from typing import Literal

from tyro.conf import Positional

from twoview.commands.output import show


def run(
    what: Positional[Literal["recipes", "methods", "backbones", "datasets", "views", "suites"]], json: bool = False
) -> None:
    """List the recipes, methods, backbones, datasets, views or suites that are available, with one line about each.

    Args:
        what: what to list.
        json: print the list as JSON.
    """
    rows = LISTS[what]()
    text = "\n".join(f"{name:32} {about}" for name, about in rows.items())
    show([{"name": name, "about": about} for name, about in rows.items()], json, text)


def _recipes() -> dict[str, str]:
    from twoview.bench.config import recipe

    return {path.stem: recipe.load(path.stem).source for path in recipe.all_files()}


def _methods() -> dict[str, str]:
    from twoview.methods.registry import METHODS

    return {name: _first_line(entry.build) for name, entry in METHODS.items()}


def _backbones() -> dict[str, str]:
    from twoview.methods.backbones import BACKBONES

    return BACKBONES


def _datasets() -> dict[str, str]:
    from twoview.loaders.datasets import DATASETS

    return {name: f"{one.count:,} classes, license: {one.license}" for name, one in DATASETS.items()}


def _views() -> dict[str, str]:
    from twoview.loaders.presets import PRESETS

    return {name: _first_line(views) for name, views in PRESETS.items()}


def _suites() -> dict[str, str]:
    from twoview.bench.suites.runner import SUITES

    return {
        "claims": "the papers' claims, tested by small versions of their recipes",
        "gpu": "what one GPU reaches within --minutes, compared with its targets",
        **{
            name: ", ".join([*(w.name for w in one.loaders), *one.recipes, *one.theory]) for name, one in SUITES.items()
        },
    }


def _first_line(documented: object) -> str:
    """Return the first line of an object's docstring."""
    return (documented.__doc__ or "").strip().partition("\n")[0]


# What can be listed -> a function that returns each name with a line about it.
LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "recipes": _recipes,
    "methods": _methods,
    "backbones": _backbones,
    "datasets": _datasets,
    "views": _views,
    "suites": _suites,
}
