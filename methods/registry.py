"""Name -> method. A new method is a file of its own and one line here."""

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from methods.method import Method, Options
from methods.simclr import SimCLR, SimCLROptions
from methods.supervised import Supervised, SupervisedOptions


class Entry(NamedTuple):
    """options: the type of the `[method]` table. build(options, encoder, views, classes) -> Method."""

    options: type[Options]
    build: Callable[..., Method]


METHODS: dict[str, Entry] = {
    "simclr": Entry(SimCLROptions, SimCLR),
    "supervised": Entry(SupervisedOptions, Supervised),
}


def entry(name: Any) -> Entry:
    """The method of that name. ValueError with the known names, the nearest first, if there is none."""
    if name not in METHODS:
        near = difflib.get_close_matches(str(name), METHODS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"unknown method {name!r}: {hint}known are {', '.join(sorted(METHODS))}")
    return METHODS[name]
