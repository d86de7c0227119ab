"""One way to look up a name that a user wrote."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """known[name]. ValueError with the kind, the name, the nearest known name and all of them, if it is not there."""
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"unknown {kind} {name!r}: {hint}known are {', '.join(known)}")
    return known[name]
