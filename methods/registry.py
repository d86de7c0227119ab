"""Name -> method. A new method is a file of its own and one line here."""

from collections.abc import Callable
from typing import NamedTuple

from loaders.names import look_up
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


def entry(name: str) -> Entry:
    """The method of that name. ValueError with the known names, the nearest first, if there is none."""
    return look_up("method", name, METHODS)
