"""What one H100 should reach. Targets are shown next to measurements and never replace them."""

from dataclasses import dataclass

from twoview.bench.evidence import Figure, Quantity
from twoview.bench.suites.gpu import cifar, rates, steps
from twoview.bench.suites.gpu.scale import HEADLINE


@dataclass(frozen=True)
class Target:
    """A bound on the median of a record's figure, in the figure's unit.

    at_least: the bound must be reached; otherwise it must not be exceeded. variant, work: which figure is meant, if a
    record has several of the quantity. published: a reported result, with its source.
    """

    record: str
    quantity: Quantity
    bound: float
    at_least: bool
    variant: str = ""
    work: str = ""
    published: str = ""

    def met(self, measured: float) -> bool:
        """Return whether the target is met. NaN, for an accuracy that was not reached, meets no target."""
        return measured >= self.bound if self.at_least else measured <= self.bound


CARD = "H100"  # the GPU that these targets are for; they do not apply to other machines
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
    """Return the target of a figure in the record called `record`, or None."""
    for one in TARGETS:
        same = (one.record, one.quantity, one.variant) == (record, figure.quantity, figure.variant)
        if same and one.work in ("", figure.work):
            return one
    return None
