"""A claim of a paper, together with what was measured about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

OVER = "over "  # prefix of the name of a series that holds the x values of the other series, such as "over tau"

Verdict = Literal["holds", "fails", "not testable at this size"]


@dataclass(frozen=True)
class Scatter:
    """Points in a plane, for a scatter plot.

    x, y: float (n,), the coordinates of a few hundred points at most.
    label: int (n,), the class or cluster of each point.
    """

    x: np.ndarray
    y: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Phase:
    """A measured quantity over a grid of two parameters.

    x: float (k,) and y: float (l,), the values of the two parameters.
    value: float (l, k), with one row for each y and one column for each x.
    """

    x_name: str
    x: np.ndarray
    y_name: str
    y: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Claim:
    """One claim of a paper, what was measured about it, and the verdict.

    name: the claim in a few words.
    source: the paper with the theorem, figure or section, and how sure we are of this source.
    measured: what was measured, with its settings, as a sentence or a number.
    expected: what the claim requires, as a sentence or a number.
    verdict: follows from `measured` by the rule that `expected` states.
    figure: the curves behind the verdict by name, 1-D arrays of equal length. A series whose name begins with "over "
    (`over tau`, for example) holds the x values of the others. Without one, the curves are drawn over their index.
    scatter, phase: panels by title, drawn side by side.
    effects: for each seed the number that decides the verdict, above 0 where the claim holds. Empty if no single number
    decides.
    """

    name: str
    source: str
    measured: str
    expected: str
    verdict: Verdict
    figure: Mapping[str, np.ndarray] = field(default_factory=dict)
    scatter: Mapping[str, Scatter] = field(default_factory=dict)
    phase: Mapping[str, Phase] = field(default_factory=dict)
    effects: Sequence[float] = ()


def verdict(holds: bool) -> Verdict:
    """Return the verdict on a claim that can be tested: whether it holds."""
    return "holds" if holds else "fails"


def percent(share: float) -> str:
    """Return a share from 0 to 1 as text in percent, in the form that claims use."""
    return f"{100 * share:.1f} %"
