"""Name -> method. A new method is a file of its own and one line here."""

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
    """options: the type of the `[method]` table. method: the class, and what is known of it."""

    options: type[Options]
    method: type[Method]

    @property
    def build(self) -> Callable[..., Method]:
        """(options, encoder, views, classes) -> the method, its heads with fresh weights."""
        return self.method


# The most asked for first: in this order they are listed, and measured where time is short.
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
    """The method of that name. ValueError with the known names, the nearest first, if there is none."""
    return look_up("method", name, METHODS)


def examples() -> dict[str, Example]:
    """The losses of all methods by name, each in the setting in which it is timed and checked."""
    return {name: example for one in METHODS.values() for name, example in one.method.examples.items()}
