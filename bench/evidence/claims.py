"""One claim of a paper beside what was measured of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

OVER = "over "  # begins the name of the series that is the others' abscissa

Verdict = Literal["holds", "fails", "not testable at this size"]


@dataclass(frozen=True)
class Scatter:
    """Points of a plane. x, y: float (n,), a few hundred at most. label: int (n,), each point's class or cluster."""

    x: np.ndarray
    y: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Phase:
    """A measure over a grid of two parameters. x: float (k,), y: float (l,). value: float (l, k), a row for each y."""

    x_name: str
    x: np.ndarray
    y_name: str
    y: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Claim:
    """name: the claim in a few words. source: paper and theorem, figure or section, and how sure we are of it.

    measured: what was measured, with its settings, and expected: what the claim asks for, each a sentence or a number.
    verdict: by the rule that `expected` states. figure: the curves behind it, a name each, 1-D arrays of one length;
    one named `over tau`, say, is the others' abscissa, and where there is none they are drawn over their index.
    scatter, phase: panels by their title, drawn side by side. effects: of each seed the number that decides, above 0
    where the claim is right; none where no single number does.
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
    """Of a claim that can be tested."""
    return "holds" if holds else "fails"


def percent(share: float) -> str:
    """Of a share from 0 to 1, as claims write it."""
    return f"{100 * share:.1f} %"
