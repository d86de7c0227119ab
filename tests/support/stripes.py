"""Easily learned images in batches like a loader's, and a small trainer for them."""

from dataclasses import dataclass

import torch

from twoview.loaders.views import View
from twoview.methods import backbones
from twoview.methods.backbones import Backbone
from twoview.methods.device_batches import DeviceBatch
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.simclr import SimCLR, SimCLROptions
from twoview.methods.supervised import Supervised, SupervisedOptions
from twoview.methods.trainer import Trainer

CPU = torch.device("cpu")
RECIPE = {"name": "r"}


@dataclass
class Stripes:
    """Four batches of 32: class 0 has horizontal stripes, class 1 vertical ones. A pure function of the epoch."""

    views: int = 1
    position: tuple[int, int] = (0, 0)

    def __len__(self):
        return 4

    def state_dict(self):
        return {"epoch": self.position[0], "batches": self.position[1]}

    def load_state_dict(self, state):
        self.position = state["epoch"], state["batches"]

    def epoch(self, epoch):
        self.position = epoch, self.position[1] if self.position[0] == epoch else 0
        return self.rest(*self.position)

    def rest(self, epoch, first):
        for number in range(first, 4):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            label = torch.randint(0, 2, (32,), generator=generator)
            stripes = 255 * (torch.arange(8) % 2).float().expand(8, 8)
            image = torch.where(label[:, None, None] == 0, stripes.T, stripes)[:, None].expand(32, 3, 8, 8)
            views = tuple(
                (0.8 * image + 51 * torch.rand(32, 3, 8, 8, generator=generator)).to(torch.uint8)
                for _ in range(self.views)
            )
            yield DeviceBatch(tuple(view.to(memory_format=torch.channels_last) for view in views), label)


def make_trainer(views=1, epochs=3, precision="fp32", name="sgd", compile="off", accumulate=1):
    torch.manual_seed(0)
    encoder = backbones.build(Backbone(width=4))
    method = (
        SimCLR(SimCLROptions(hidden=8, projection=4), encoder, (View(8), View(8)), 2)
        if views == 2
        else Supervised(SupervisedOptions(), encoder, (View(8),), 2)
    )
    normalize = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    settings = Optim(name=name, lr=0.05, warmup_epochs=0.5)
    return Trainer(
        method,
        settings,
        epochs=epochs,
        normalize=normalize,
        device=CPU,
        precision=precision,
        compile=compile,
        accumulate=accumulate,
    )
