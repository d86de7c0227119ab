"""What one H100 is to reach. Shown beside what was measured, never in its place."""

from dataclasses import dataclass

from twoview.bench.evidence import Figure, Quantity
from twoview.bench.suites.gpu import cifar, rates, steps
from twoview.bench.suites.gpu.scale import HEADLINE


@dataclass(frozen=True)
class Target:
    """A bound on the median of a record's figure, in the figure's unit; `published`: what others state, with its place.

    at_least: the bound is to be reached, else not to be exceeded. variant, work: of the figure, where a record has
    several of the quantity.
    """

    record: str
    quantity: Quantity
    bound: float
    at_least: bool
    variant: str = ""
    work: str = ""
    published: str = ""

    def met(self, measured: float) -> bool:
        """A figure that is not a number, because it was not reached, meets nothing."""
        return measured >= self.bound if self.at_least else measured <= self.bound


CARD = "H100"  # whose targets these are: a machine without one has none to meet
LEE = "2.5 days on 8 V100, 13 GB each (Lee 2025)"
KOBAK = "90.3 % in 99 minutes on one A100 (github.com/dkobak/simclr-cifar10)"
TARGETS = (
    *(Target(name, "training_rate", 3000, True) for name in (rates.NAME, rates.HALF)),
    *(Target(name, "efficiency", 97, True) for name in (rates.NAME, rates.HALF)),
    *(Target(name, "data_wait", 2, False) for name in (rates.NAME, rates.HALF)),
    Target(cifar.EPOCH, "epoch_time", 2.5, False),
    Target(cifar.TIME, "time_to_accuracy", 5, False, variant="85"),
    Target(cifar.TIME, "time_to_accuracy", 15, False, variant="90", published=KOBAK),
    Target(steps.budget_name(HEADLINE), "projected_gpu_hours", 24, False, work=HEADLINE, published=LEE),
)


def target(record: str, figure: Figure) -> Target | None:
    """The target of a figure of the record of that name, if it has one."""
    for one in TARGETS:
        same = (one.record, one.quantity, one.variant) == (record, figure.quantity, figure.variant)
        if same and one.work in ("", figure.work):
            return one
    return None
