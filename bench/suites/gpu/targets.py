"""What one H100 is to reach. Shown beside what was measured, never in its place."""

from dataclasses import dataclass

from twoview.bench.suites.gpu import cifar, rates, steps
from twoview.bench.suites.gpu.scale import HEADLINE


@dataclass(frozen=True)
class Target:
    """A bound on the median of a record's figure, in the figure's unit; `published`: what others state, with its place.

    at_least: the bound is to be reached, else not to be exceeded. work: of the figure, where a record has several.
    """

    record: str
    figure: str
    bound: float
    at_least: bool
    work: str = ""
    published: str = ""

    def met(self, measured: float) -> bool:
        """A figure that is not a number, because it was not reached, meets nothing."""
        return measured >= self.bound if self.at_least else measured <= self.bound


CARD = "H100"  # whose targets these are: a machine without one has none to meet
LEE = "2.5 days on 8 V100, 13 GB each (Lee 2025)"
KOBAK = "90.3 % in 99 minutes on one A100 (github.com/dkobak/simclr-cifar10)"
TARGETS = (
    *(Target(name, "real", 3000, True) for name in (rates.NAME, rates.HALF)),
    *(Target(name, "efficiency", 97, True) for name in (rates.NAME, rates.HALF)),
    *(Target(name, "data wait", 2, False) for name in (rates.NAME, rates.HALF)),
    Target(cifar.EPOCH, "an epoch", 2.5, False),
    Target(cifar.TIME, "time to 85 % kNN", 5, False),
    Target(cifar.TIME, "time to 90 % kNN", 15, False, published=KOBAK),
    Target(steps.budget_name(HEADLINE), steps.PROJECTED, 24, False, work=HEADLINE, published=LEE),
)


def target(record: str, figure: str, work: str) -> Target | None:
    """The target of a figure, if it has one."""
    for one in TARGETS:
        if (one.record, one.figure) == (record, figure) and one.work in ("", work):
            return one
    return None
