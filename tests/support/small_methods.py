"""Every method on a small encoder, and batches for it."""

import numpy as np
import torch

from twoview.loaders import masks
from twoview.loaders.views import View
from twoview.methods import backbones, registry
from twoview.methods.backbones import Backbone
from twoview.methods.device_batches import DeviceBatch
from twoview.methods.heads import ProjectorOptions
from twoview.methods.vit import ViT

SMALL = {
    "moco": {"queue": 20, "momentum": 0.9},
    "byol": {"predictor": 8, "momentum": 0.9},
    "balanced": {"prototype_views": 2, "oracle": 0.5, "known_prior": True},
    "mae": {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
    "data2vec": {"smallest": 2, "layers": 1, "momentum": 0.9},
}
SMALL["msn"] = {"layers": 2, "prototypes": 12, "focal_views": 2, "patch_drop": 0.3, "drop_focal": True, "momentum": 0.9}
SMALL["pmsn"] = {**SMALL["msn"], "prior": "classes", "sinkhorn": 1}
METHODS = sorted(registry.METHODS)


def make(name, **changes):
    """The method on an encoder 8 channels wide, or a ViT of 16, with heads 8 wide."""
    torch.manual_seed(0)
    entry = registry.entry(name)
    heads = {"hidden": 8, "projection": 8} if issubclass(entry.options, ProjectorOptions) else {}
    encoder = ViT(16, 2, 2, patch=4, size=16) if entry.method.needs_vit else backbones.build(Backbone(width=8))
    views = (View(16), View(16), View(8))[: entry.method.takes]
    return entry.build(entry.options(name=name, **heads | SMALL.get(name, {}) | changes), encoder, views, 10)


def batch(method, seed=0, images=6):
    generator = torch.Generator().manual_seed(seed)
    views = tuple(torch.randn(images, 3, view.size, view.size, generator=generator) for view in method.views)
    kept = tuple(torch.from_numpy(masks.draw(mask, np.arange(images), seed, 0)) for mask in method.masks)
    return DeviceBatch(views, torch.randint(0, 10, (images,), generator=generator), kept)


def batches(method, count, images=6, side=None):
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        views = tuple(
            torch.randint(
                0, 256, (images, side or view.size, side or view.size, 3), dtype=torch.uint8, generator=generator
            ).permute(0, 3, 1, 2)
            for view in method.views
        )
        label = torch.randint(0, 10, (images,), generator=generator)
        yield DeviceBatch(views, label, batch(method, number, images).masks)
