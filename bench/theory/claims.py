"""One claim of a paper beside what was measured of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Verdict = Literal["holds", "fails", "not testable at this size"]


@dataclass(frozen=True)
class Claim:
    """name: the claim in a few words. source: paper and theorem, figure or section, and how sure we are of it.

    measured: what was measured, with its settings, and expected: what the claim asks for, each a sentence or a number.
    verdict: by a rule that was fixed before the measurement. figure: the curves behind it, a name each, 1-D arrays of
    one length; the series named `x` is the others' abscissa, and where there is none they are drawn over their index.
    """

    name: str
    source: str
    measured: str
    expected: str
    verdict: Verdict
    figure: Mapping[str, np.ndarray] = field(default_factory=dict)


def verdict(holds: bool) -> Verdict:
    """Of a claim that can be tested."""
    return "holds" if holds else "fails"
