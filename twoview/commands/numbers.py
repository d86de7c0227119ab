"""The numbers that options may have: what no parser knows, said in one sentence before any work is begun."""

import math
from collections.abc import Iterator, Mapping

from twoview.loaders.limits import Limit


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


def at_most(limit: Limit, **options: int | None) -> None:
    """ValueError that names the first option that asks for more than the limit allows; options as in `at_least`."""
    for option, number in _numbers(options):
        limit.check(int(number), option)


def a_seed(bits: int, **options: int | None) -> None:
    """ValueError that names the first option that is no seed of so many bits; options as in `at_least`."""
    for option, number in _numbers(options):
        if not 0 <= number < 2**bits:
            raise ValueError(f"{option} must be from 0 to 2 ** {bits} - 1, got {number}")


def _numbers(options: Mapping[str, float | None]) -> Iterator[tuple[str, float]]:
    """The options that were given, as they are typed, and their numbers."""
    return ((f"--{name.replace('_', '-')}", number) for name, number in options.items() if number is not None)
