"""lightly: SimCLR put together from its projection head and loss, as its ImageNet benchmark does."""

from collections.abc import Iterator

import torch
import torchvision.models
from lightly.loss import NTXentLoss  # type: ignore[import-untyped]
from lightly.models.modules import SimCLRProjectionHead  # type: ignore[import-untyped]
from torch import nn

from bench.peers.job import StepJob
from methods.precision import autocast


class Step:
    """The benchmark's step: both views in one forward under autocast, SGD, nothing compiled, torch's own memory format.

    Its loader hands over normalised floats, so these lie on the device; ours lie there as bytes.
    """

    note = "eager, contiguous, float views; as lightly's ImageNet benchmark"

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
        self.optimiser = torch.optim.SGD(self.model.parameters(), optim["lr"], momentum, weight_decay=decay)
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
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss
