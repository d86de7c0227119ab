"""The numbers that options may have: what no parser knows, said in one sentence before any work is begun."""

import math
from collections.abc import Iterator


def at_least(least: float, **options: float | None) -> None:
    """ValueError that names the first option with a number below `least`, or a number that is not finite.

    options: by the name of the parameter, each a number, or None where the option was not given.
    """
    for option, number in _numbers(options):
        if not least <= number < math.inf:
            raise ValueError(f"{option} must be at least {least:g}, got {number:g}")


def above_0(**options: float | None) -> None:
    """ValueError that names the first option with a number that is not above 0 and finite; options as in `at_least`."""
    for option, number in _numbers(options):
        if not 0 < number < math.inf:
            raise ValueError(f"{option} must be above 0, got {number:g}")


def _numbers(options: dict[str, float | None]) -> Iterator[tuple[str, float]]:
    """The options that were given, as they are typed, and their numbers."""
    return ((f"--{name.replace('_', '-')}", number) for name, number in options.items() if number is not None)
