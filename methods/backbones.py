"""Backbones: images -> representations."""

from typing import Literal

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from methods.settings import Settings


class Backbone(Settings):
    """The `[backbone]` table of a recipe."""

    name: Literal["resnet-small", "resnet18", "resnet34", "resnet50"] = (
        "resnet-small"  # ours for a CPU, or torchvision's
    )
    stem: Literal["cifar", "imagenet"] = "cifar"  # of torchvision's: 3x3 and no pooling, or 7x7, stride 2 and pooling
    width: PositiveInt = 32  # channels of resnet-small's first block


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, dim). `body` ends in a flat representation."""

    def __init__(self, body: nn.Module, dim: int) -> None:
        super().__init__()
        self.body = body
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


def build(backbone: Backbone) -> Encoder:
    """An encoder with fresh weights, from torch's global generator."""
    if backbone.name == "resnet-small":
        return _small(backbone.width)
    return _torchvision(backbone.name, backbone.stem)


def _small(width: int) -> Encoder:
    """A ResNet of seven convolutions for about 32 pixels, stride 2 in the stem: an epoch is seconds on a CPU."""
    body = nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _Block(width, width, stride=1),
        _Block(width, 2 * width, stride=2),
        _Block(2 * width, 4 * width, stride=2),
        Average(),
    )
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Encoder(body, 4 * width)


class Average(nn.Module):
    """(B, C, H, W) -> (B, C), the mean over the image. The gradient of torch's own pooling to one pixel comes back with
    its channels first, and the layer before it has to transpose it; this one's has them last.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


class _Block(nn.Module):
    """The basic residual block of He et al. 2016."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or width != out:
            self.skip = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(h)) + self.skip(x), inplace=True)


def _torchvision(name: str, stem: str) -> Encoder:
    import torchvision.models

    body = getattr(torchvision.models, name)()
    dim = body.fc.in_features
    body.fc = nn.Identity()
    body.avgpool = Average()
    if stem == "cifar":
        body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
        body.maxpool = nn.Identity()
    return Encoder(body, dim)
