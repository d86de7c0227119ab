"""kornia: torchvision's crops in the workers of a torch DataLoader, all other ops by kornia, batch by batch.

Its ops want images of one size, so the crop that makes them so comes first, as in the pipelines that use it. They run
in the workers, a batch a core, since there is no other device that the main process could give the batches to. Its
jitter has torchvision's formulas and a factor of its own for each image, but one order of the four for a whole batch.
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
    note = "torchvision's crops; hands over floats"

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
    """A batch of the crops with all other ops done: float views (B, 3, size, size) in [0, 1], and labels."""
    *views, label = default_collate(samples)
    return *(op(view.float() / 255) for op, view in zip(ops, views, strict=True)), label


def batch_ops(view: View) -> nn.Module:
    """kornia's ops of a view: float (B, 3, size, size) in [0, 1] -> the same. ValueError for a view with others."""
    if others := ops_of(view).keys() - {"jitter", "gray", "blur"}:
        raise ValueError(f"the kornia peer makes jitter, gray and blur only, and a view has {', '.join(others)}")
    steps: list[nn.Module] = [RandomHorizontalFlip(p=view.flip)]
    if view.jitter:
        steps.append(ColorJitter(*view.jitter[:4], p=view.jitter.p))
    if view.gray:
        weights = Tensor([0.299, 0.587, 0.114])  # as torchvision's
        steps.append(RandomGrayscale(weights, p=view.gray))
    if view.blur:
        kernel, sigma = (view.blur.kernel, view.blur.kernel), (view.blur.sigma_min, view.blur.sigma_max)
        steps.append(RandomGaussianBlur(kernel, sigma, p=view.blur.p))
    return nn.Sequential(*steps)
