"""All methods by name. A new method is a file of its own and one line here."""

from collections.abc import Callable
from typing import NamedTuple

from twoview.loaders.names import look_up
from twoview.methods.balanced import Balanced, BalancedOptions
from twoview.methods.barlow import Barlow, BarlowOptions
from twoview.methods.byol import BYOL, BYOLOptions
from twoview.methods.data2vec import Data2Vec, Data2VecOptions
from twoview.methods.kernel_infonce import KernelInfoNCE, KernelInfoNCEOptions
from twoview.methods.losses.example import Example
from twoview.methods.mae import MAE, MAEOptions
from twoview.methods.method import Method, Options
from twoview.methods.moco import MoCo, MoCoOptions
from twoview.methods.msn import MSN, MSNOptions
from twoview.methods.pmsn import PMSN, PMSNOptions
from twoview.methods.simclr import SimCLR, SimCLROptions
from twoview.methods.supcon import SupCon, SupConOptions
from twoview.methods.supervised import Supervised, SupervisedOptions
from twoview.methods.vicreg import VICReg, VICRegOptions


class Entry(NamedTuple):
    """A method that recipes can name. options: the type of its `[method]` table. method: its class."""

    options: type[Options]
    method: type[Method]

    @property
    def build(self) -> Callable[..., Method]:
        """The constructor: (options, encoder, views, number of classes) -> the method, with freshly drawn heads."""
        return self.method


# The most wanted methods come first: this is the order in which methods are listed, and measured where time is short.
METHODS: dict[str, Entry] = {
    "simclr": Entry(SimCLROptions, SimCLR),
    "byol": Entry(BYOLOptions, BYOL),
    "moco": Entry(MoCoOptions, MoCo),
    "barlow": Entry(BarlowOptions, Barlow),
    "vicreg": Entry(VICRegOptions, VICReg),
    "mae": Entry(MAEOptions, MAE),
    "msn": Entry(MSNOptions, MSN),
    "supcon": Entry(SupConOptions, SupCon),
    "supervised": Entry(SupervisedOptions, Supervised),
    "kernel-infonce": Entry(KernelInfoNCEOptions, KernelInfoNCE),
    "balanced": Entry(BalancedOptions, Balanced),
    "data2vec": Entry(Data2VecOptions, Data2Vec),
    "pmsn": Entry(PMSNOptions, PMSN),
}


def entry(name: str) -> Entry:
    """Return the method with this name. Raises ValueError, with the known names, if there is none."""
    return look_up("method", name, METHODS)


def examples() -> dict[str, Example]:
    """Return the losses of all methods by name, each in the setting in which it is timed and checked."""
    return {name: example for one in METHODS.values() for name, example in one.method.examples.items()}
