"""Name -> method. A new method is a file of its own and one line here."""

from collections.abc import Callable
from typing import NamedTuple

from twoview.loaders.names import look_up
from twoview.methods.balanced import Balanced, BalancedOptions
from twoview.methods.barlow import Barlow, BarlowOptions
from twoview.methods.byol import BYOL, BYOLOptions
from twoview.methods.data2vec import Data2Vec, Data2VecOptions
from twoview.methods.kernel_infonce import KernelInfoNCE, KernelInfoNCEOptions
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
    """options: the type of the `[method]` table. build(options, encoder, views, classes) -> Method."""

    options: type[Options]
    build: Callable[..., Method]


METHODS: dict[str, Entry] = {
    "simclr": Entry(SimCLROptions, SimCLR),
    "kernel-infonce": Entry(KernelInfoNCEOptions, KernelInfoNCE),
    "balanced": Entry(BalancedOptions, Balanced),
    "moco": Entry(MoCoOptions, MoCo),
    "byol": Entry(BYOLOptions, BYOL),
    "barlow": Entry(BarlowOptions, Barlow),
    "vicreg": Entry(VICRegOptions, VICReg),
    "mae": Entry(MAEOptions, MAE),
    "data2vec": Entry(Data2VecOptions, Data2Vec),
    "msn": Entry(MSNOptions, MSN),
    "pmsn": Entry(PMSNOptions, PMSN),
    "supcon": Entry(SupConOptions, SupCon),
    "supervised": Entry(SupervisedOptions, Supervised),
}


def entry(name: str) -> Entry:
    """The method of that name. ValueError with the known names, the nearest first, if there is none."""
    return look_up("method", name, METHODS)
