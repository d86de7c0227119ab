"""kornia: torchvision's crops in the workers of a torch DataLoader, and all other ops by kornia on whole batches.

kornia's ops need images of one size, so the crop comes first, as in other pipelines with kornia. The ops run in the
workers, one batch per core, because there is no other device that the main process could give the batches to. kornia's
jitter uses torchvision's formulas with separate factors for each image, but applies the four adjustments in one order
for the whole batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from kornia.augmentation import (
    ColorJitter,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
)
from torch import Tensor, nn
from torch.utils.data import default_collate

from twoview.bench.peers.job import Job
from twoview.bench.peers.torchvision import in_workers, transform
from twoview.loaders.views import View, ops_of, without_ops


class Kornia:
    """Contestant that loads with torchvision's crops and kornia's ops."""

    note = "torchvision's crops; views are floats"

    def __init__(self, job: Job) -> None:
        self.job = job

    def make(self) -> None:
        views = self.job.view_tuple()
        crops = [transform(replace(without_ops(view), flip=0.0)) for view in views]
        self.loader = in_workers(self.job, crops, partial(collate, [batch_ops(view) for view in views]))

    def one_pass(self) -> Iterator[object]:
        yield from self.loader


@torch.no_grad()
def collate(ops: Sequence[nn.Module], samples: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Collate crops into a batch and apply all other ops: float views (B, 3, size, size) in [0, 1], and labels."""
    *views, label = default_collate(samples)
    return *(op(view.float() / 255) for op, view in zip(ops, views, strict=True)), label


def batch_ops(view: View) -> nn.Module:
    """Return kornia's ops of a view, a module from float (B, 3, size, size) in [0, 1] to the same.

    Raises ValueError if the view has other ops.
    """
    if others := ops_of(view).keys() - {"jitter", "gray", "blur"}:
        raise ValueError(f"the kornia peer makes jitter, gray and blur only, got a view with {', '.join(others)}")
    steps: list[nn.Module] = [RandomHorizontalFlip(p=view.flip)]
    if view.jitter:
        steps.append(ColorJitter(*view.jitter[:4], p=view.jitter.p))
    if view.gray:
        weights = Tensor([0.299, 0.587, 0.114])  # of R, G and B, as in torchvision
        steps.append(RandomGrayscale(weights, p=view.gray))
    if view.blur:
        kernel, sigma = (view.blur.kernel, view.blur.kernel), (view.blur.sigma_min, view.blur.sigma_max)
        steps.append(RandomGaussianBlur(kernel, sigma, p=view.blur.p))
    return nn.Sequential(*steps)
