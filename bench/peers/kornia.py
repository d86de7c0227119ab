"""kornia: torchvision's crops in the workers of a torch DataLoader, all other ops by kornia, batch by batch.

Its ops want images of one size, so the crop that makes them so comes first, as in the pipelines that use it.
"""

from collections.abc import Iterator

import torch
from kornia.augmentation import (
    ColorJitter,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
)
from torch import Tensor, nn

from bench.peers.job import Job
from bench.peers.torchvision import in_workers, transform
from loaders.views import View


class Kornia:
    note = "crops in workers, the other ops in batches; hands over floats"

    def __init__(self, job: Job) -> None:
        self.job = job

    def make(self) -> None:
        job = self.job
        torch.set_num_threads(job.threads)
        views = job.view_tuple()
        self.ops = [batch_ops(view) for view in views]
        crops = [transform(View(view.size, view.scale, view.ratio, view.resize, flip=0.0)) for view in views]
        self.loader = in_workers(job, crops)

    @torch.inference_mode()
    def one_pass(self) -> Iterator[object]:
        for *views, label in self.loader:
            yield *(ops(view.float() / 255) for ops, view in zip(self.ops, views, strict=True)), label


def batch_ops(view: View) -> nn.Module:
    """kornia's ops of a view: float (B, 3, size, size) in [0, 1] -> the same. ValueError for a view that solarises."""
    if view.solarize:
        raise ValueError("the kornia peer does not solarise")
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
