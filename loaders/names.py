"""Names that users and files give: looked up among those that are known, and checked before one becomes a path."""

import difflib
import re
from collections.abc import Mapping
from typing import TypeVar

from twoview.loaders.limits import NAME

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_SHOWN = 60  # characters of a name that a sentence repeats
_FEW = 30  # known names that a sentence lists; of more, the nearest


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """known[name]. ValueError with the kind, the name and the known names, of many the nearest, if it is not there."""
    if name not in known:
        short = name[: NAME.value]  # the search for the nearest takes time by the length
        near = difflib.get_close_matches(short, known, 5 if len(known) > _FEW else 1)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        rest = f"there are {len(known)} known ones" if len(known) > _FEW else f"known are {', '.join(known)}"
        raise ValueError(f"unknown {kind} {quoted(name)}: {hint}{rest}")
    return known[name]


def checked_name(kind: str, name: str) -> str:
    """The name, which may become part of a file's name: it is never a path. kind: what it names, for the sentence.

    ValueError unless it has 1 to `limits.NAME` ASCII letters, digits and `._-`, the first of which is no dot.
    """
    if not isinstance(name, str):
        raise ValueError(f"the name of a {kind} must be a text, got {quoted(name)}")
    NAME.check(len(name), f"the name of a {kind}")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name of a {kind} must be of ASCII letters, digits and the characters . _ - "
            f"and not begin with a dot, got {quoted(name)}"
        )
    return name


def quoted(name: object) -> str:
    """As Python writes it, cut where it is long."""
    text = repr(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def shown(name: str) -> str:
    """A name that a file gives, as sentences have it: quoted where it is empty, long or would not print."""
    return name if name.isprintable() and 0 < len(name) <= _SHOWN else quoted(name)
