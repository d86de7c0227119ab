"""Names given by users and files: looked up among the known names, and checked before they become part of a path."""

import difflib
import os
import re
from collections.abc import Mapping
from typing import TypeVar

from twoview.loaders.limits import NAME

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_SHOWN = 60  # most characters of a name that an error message repeats
_FEW = 30  # most known names that an error message lists; if there are more, it gives the nearest


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return known[name].

    kind: the word for such a thing in the error message, for example "dataset".
    Raises ValueError with the kind, the name and the known names (only the nearest if there are many) if it is unknown.
    """
    if name not in known:
        short = name[: NAME.value]  # the longer the name, the longer the search for similar ones takes
        near = difflib.get_close_matches(short, known, 5 if len(known) > _FEW else 1)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        rest = f"{len(known)} names are known" if len(known) > _FEW else f"choose one of {', '.join(known)}"
        raise ValueError(f"unknown {kind} {quoted(name)}: {hint}{rest}")
    return known[name]


def checked_name(kind: str, name: str) -> str:
    """Return the name if it is safe as part of a file's name, which also means that it is never a path.

    kind: the word for the named thing in the error message.
    Raises ValueError unless it has 1 to `limits.NAME` characters, all of them ASCII letters, digits and `._-`, and does
    not begin with a dot.
    """
    if not isinstance(name, str):
        raise ValueError(f"the name of a {kind} must be a string, got {quoted(name)}")
    NAME.check(len(name), f"the name of a {kind}")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name of a {kind} must consist of ASCII letters, digits and the characters . _ - "
            f"and not begin with a dot, got {quoted(name)}"
        )
    return name


def quoted(name: object) -> str:
    """Return the name as Python's repr writes it, cut if it is long."""
    text = repr(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def printable(name: str) -> str:
    """Return a file's name as text that can be encoded: bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shown(name: str) -> str:
    """Return a name that was read from a file for use in a message: quoted if it is empty, long or not printable."""
    return name if name.isprintable() and 0 < len(name) <= _SHOWN else quoted(name)
