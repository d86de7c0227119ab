"""Comparison of settings with an earlier run's, so that no run is continued with different settings."""

from collections.abc import Iterator, Mapping
from typing import Any

from twoview.methods.settings import shown

FEW = 3  # how many differing settings the sentence names; the others are only counted


def check_same(mine: Mapping[str, Any], theirs: Mapping[str, Any], where: str, otherwise: str) -> None:
    """Raise ValueError unless my settings equal theirs, with which `where` was made.

    otherwise: what the user can do about it; the end of the error message.
    """
    if words := differing(mine, theirs, where):
        raise ValueError(f"{words}: {otherwise}")


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> str:
    """Return a text that says which of my settings differ from theirs, with which `where` was made; empty if none does.

    It gives each differing key with both values. Nested tables are compared key by key and have dotted keys. A missing
    key counts as None.
    """
    found = list(_differing(mine, theirs))
    if not found:
        return ""
    (key, its, my), *others = found
    words = [f"{key} must be {its} as in {where}, got {my}"]
    words += [f"{key} must be {its}, got {my}" for key, its, my in others[: FEW - 1]]
    if (more := len(found) - FEW) > 0:
        words.append(f"{more} more {'differs' if more == 1 else 'differ'}")
    return "; ".join(words)


def _differing(mine: Mapping[str, Any], theirs: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the dotted key, their value and my value for each difference.

    If two tables have different names, for example the names of two methods, only the names are compared.
    """
    keys = ("name",) if mine.get("name") != theirs.get("name") else {**theirs, **mine}
    for key in keys:
        my, its = mine.get(key), theirs.get(key)
        if isinstance(my, Mapping) and isinstance(its, Mapping):
            yield from _differing(my, its, f"{above}{key}.")
        elif my != its:
            yield f"{above}{key}", shown(its), shown(my)
