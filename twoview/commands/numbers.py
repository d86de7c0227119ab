"""Checks of the numbers given as options, made before any work begins. Each error is one sentence."""

import math
from collections.abc import Iterator, Mapping

from twoview.loaders.limits import Limit


def at_least(least: float, **options: float | None) -> None:
    """Raise ValueError, naming the first option whose number is below `least` or not finite.

    options: a number for each parameter's name, or None for an option that was not given.
    """
    for option, number in _numbers(options):
        if not least <= number < math.inf:
            raise ValueError(f"{option} must be at least {least:g}, got {number:g}")


def above_0(**options: float | None) -> None:
    """Raise ValueError, naming the first option whose number is not above 0 and finite; for options see `at_least`."""
    for option, number in _numbers(options):
        if not 0 < number < math.inf:
            raise ValueError(f"{option} must be above 0, got {number:g}")


def at_most(limit: Limit, **options: int | None) -> None:
    """Raise ValueError, naming the first option whose number exceeds the limit; for options see `at_least`."""
    for option, number in _numbers(options):
        limit.check_setting(int(number), option)


def a_seed(bits: int, **options: int | None) -> None:
    """Raise ValueError, naming the first option that is not a seed of `bits` bits; for options see `at_least`."""
    for option, number in _numbers(options):
        if not 0 <= number < 2**bits:
            raise ValueError(f"{option} must be from 0 to 2 ** {bits} - 1, got {number}")


def _numbers(options: Mapping[str, float | None]) -> Iterator[tuple[str, float]]:
    """Return the options that were given, each in its command-line form (`--name`), with its number."""
    return ((f"--{name.replace('_', '-')}", number) for name, number in options.items() if number is not None)
