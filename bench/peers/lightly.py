"""lightly: its SimCLR transform in a torch DataLoader, and a SimCLR step made of its projection head and loss.

The step is put together as in lightly's ImageNet benchmark.
"""

from collections.abc import Iterator

import torch
import torchvision.models
from lightly.loss import NTXentLoss  # type: ignore[import-untyped]
from lightly.models.modules import SimCLRProjectionHead  # type: ignore[import-untyped]
from lightly.transforms.simclr_transform import SimCLRViewTransform
from torch import nn

from twoview.bench.peers.job import Job, StepJob
from twoview.bench.peers.torchvision import in_workers
from twoview.loaders.views import Jitter, View, ops_of
from twoview.methods.precision import autocast


class Lightly:
    """Contestant that decodes the images in the beton file with PIL and makes views with lightly's transform.

    Its views are floats and twoview's are bytes; neither side normalizes them.
    """

    note = "PIL's blur; views are floats"

    def __init__(self, job: Job) -> None:
        self.job = job

    def make(self) -> None:
        job = self.job
        self.loader = in_workers(job, [transform(view) for view in job.view_tuple()])

    def one_pass(self) -> Iterator[object]:
        yield from self.loader


def transform(view: View) -> SimCLRViewTransform:
    """Return lightly's pipeline for a view, from a PIL image to float (3, size, size).

    Raises ValueError if SimCLR's transform cannot make the view.
    """
    others = ops_of(view).keys() - {"jitter", "gray", "blur"}
    if view.scale is None or view.scale[1] != 1 or view.ratio != View.ratio or others:
        raise ValueError(
            "the lightly peer makes SimCLR's views only: random crops up to the whole image, jitter, gray and blur"
        )
    jitter = view.jitter or Jitter(0, 0, 0, 0, 0)
    return SimCLRViewTransform(
        input_size=view.size,
        cj_prob=jitter.p,
        cj_bright=jitter.brightness,
        cj_contrast=jitter.contrast,
        cj_sat=jitter.saturation,
        cj_hue=jitter.hue,
        min_scale=view.scale[0],
        random_gray_scale=view.gray,
        gaussian_blur=view.blur.p if view.blur else 0.0,
        sigmas=(view.blur.sigma_min, view.blur.sigma_max) if view.blur else (0.1, 2.0),
        hf_prob=view.flip,
        normalize=None,
    )


class Step:
    """Contestant that does the benchmark's training step, eager and in torch's default memory format.

    Both views go through one forward pass under autocast, and the optimizer is SGD. lightly's loader delivers
    normalized floats, so the batch on the device is float; twoview's is bytes.
    """

    note = "eager, contiguous memory format, float views, as in lightly's ImageNet benchmark"

    def __init__(self, job: StepJob) -> None:
        self.job = job

    def make(self) -> None:
        job, recipe = self.job, self.job.recipe
        method, optim, size = recipe["method"], recipe["optim"], recipe["size"]
        torch.manual_seed(recipe["seed"])
        backbone = getattr(torchvision.models, recipe["backbone"]["name"])()
        head = SimCLRProjectionHead(backbone.fc.in_features, method["hidden"], method["projection"], method["layers"])
        backbone.fc = nn.Identity()
        self.model = nn.Sequential(backbone, head).to(job.device)
        self.loss = NTXentLoss(method["temperature"])
        decay, momentum = optim["weight_decay"], optim["momentum"]
        self.optimizer = torch.optim.SGD(self.model.parameters(), optim["lr"], momentum, weight_decay=decay)
        self.scaler = torch.amp.GradScaler(torch.device(job.device).type, enabled=recipe["precision"] == "fp16")
        self.steps = job.images // recipe["batch"]
        self.views = [torch.randn(recipe["batch"], 3, size, size, device=job.device) for _ in range(2)]

    def one_pass(self) -> Iterator[object]:
        for _ in range(self.steps):
            loss = self._step()
        yield loss.item()  # waits for the device

    def _step(self) -> torch.Tensor:
        with autocast(torch.device(self.job.device), self.job.recipe["precision"]):
            z1, z2 = self.model(torch.cat(self.views)).chunk(2)
            loss: torch.Tensor = self.loss(z1, z2)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss
