"""Settings beside those that something was made with: what was begun with some is not gone on with others."""

from collections.abc import Iterator, Mapping
from typing import Any

from twoview.methods.settings import shown

FEW = 3  # settings that are named; the others are counted


def check_same(mine: Mapping[str, Any], theirs: Mapping[str, Any], where: str, otherwise: str) -> None:
    """ValueError, with what to do `otherwise`, unless mine are the settings that `where` was made with."""
    if words := differing(mine, theirs, where):
        raise ValueError(f"{words}: {otherwise}")


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> str:
    """What must be as in `where`, which was made with theirs, each key with both values; empty if all are equal.

    Tables within tables are gone through, by dotted key. A key that is absent is None.
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
    """Dotted key, their value and mine. Of tables of two names, as of two methods, the name alone."""
    keys = ("name",) if mine.get("name") != theirs.get("name") else {**theirs, **mine}
    for key in keys:
        my, its = mine.get(key), theirs.get(key)
        if isinstance(my, Mapping) and isinstance(its, Mapping):
            yield from _differing(my, its, f"{above}{key}.")
        elif my != its:
            yield f"{above}{key}", shown(its), shown(my)
