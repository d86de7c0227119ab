"""The numbers that options may have: what no parser knows, said in one sentence before any work is begun."""

import math
from collections.abc import Iterator, Sequence

Number = float | Sequence[float] | None


def at_least(least: float, **options: Number) -> None:
    """ValueError that names the first option with a number below `least`, or a number that is not finite.

    options: by the name of the parameter, each a number, several, or None where the option was not given.
    """
    for option, number in _numbers(options):
        if not least <= number < math.inf:
            raise ValueError(f"{option} must be at least {least:g}, got {number:g}")


def above_0(**options: Number) -> None:
    """ValueError that names the first option with a number that is not above 0 and finite; options as in `at_least`."""
    for option, number in _numbers(options):
        if not 0 < number < math.inf:
            raise ValueError(f"{option} must be above 0, got {number:g}")


def _numbers(options: dict[str, Number]) -> Iterator[tuple[str, float]]:
    """The option as it is typed, and a number of it."""
    for name, given in options.items():
        numbers = given if isinstance(given, Sequence) else () if given is None else (given,)
        yield from ((f"--{name.replace('_', '-')}", number) for number in numbers)
